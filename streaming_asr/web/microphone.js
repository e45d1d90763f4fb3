// Owns the microphone: asks for it, and hands on what it hears as blocks of 16-bit PCM at 16 kHz.

// Speech recognizers are trained on sound as it is; what makes calls sound better takes some of it away.
const CONSTRAINTS = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };

/**
 * Opens the microphone. `onAudio` gets each block, `onEnded` is called when it is unplugged or taken away.
 * Rejects with the DOMException of getUserMedia, or one of the same names where there is none to ask;
 * with a NetworkError when the server does not send what the page needs for it.
 */
export async function openMicrophone(onAudio, onEnded) {
  if (!window.isSecureContext) throw new DOMException("the page's address is not secure", "SecurityError");
  if (!navigator.mediaDevices?.getUserMedia) throw new DOMException("no microphones here", "NotSupportedError");
  const stream = await navigator.mediaDevices.getUserMedia({ audio: CONSTRAINTS });
  const context = new AudioContext({ latencyHint: "interactive" });
  const close = async () => {
    for (const track of stream.getTracks()) track.stop();
    if (context.state !== "closed") await context.close();
  };
  try {
    await context.audioWorklet.addModule(new URL("worklet.js", import.meta.url)).catch(() => {
      throw new DOMException("worklet.js did not come", "NetworkError");
    });
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
    capture.port.onmessage = ({ data }) => onAudio(data);
    context.createMediaStreamSource(stream).connect(capture);
    stream.getAudioTracks()[0].addEventListener("ended", onEnded);
    await context.resume();
  } catch (error) {
    await close();
    throw error;
  }
  const setPaused = (isPaused) => {
    for (const track of stream.getTracks()) track.enabled = !isPaused; // lets the system's indicator go out
  };
  return { close, setPaused };
}
