// Owns what the page says when something is wrong: for each cause a title and what to do. Pure.

const HELP_ANYWAY = "Recordings work all the same: drop one on the page.";

/** For an error of openMicrophone, by its name, on a page at `origin`, `port`. */
export function microphoneNotice(name, { origin, port }) {
  switch (name) {
    case "NotAllowedError":
      return {
        title: "The microphone is blocked",
        text: "Allow it for this page with the icon beside the address, and for the browser in the system's settings. Then start again.",
      };
    case "NotFoundError":
    case "OverconstrainedError":
      return { title: "No microphone found", text: `Connect one and start again. ${HELP_ANYWAY}` };
    case "NotReadableError":
    case "AbortError":
      return {
        title: "The microphone does not answer",
        text: "Another program may be using it, or its cable is loose. Then start again.",
      };
    case "NetworkError":
      return { title: "The server does not answer", text: "Is it running? Then start again." };
    case "SecurityError":
      return {
        title: "The microphone needs a secure address",
        text: `Browsers give it to https:// and to localhost only, not to ${origin}. Open http://localhost${port && `:${port}`} on the machine that runs the server, or give the server a certificate. ${HELP_ANYWAY}`,
      };
    default:
      return { title: "This browser gives pages no microphone", text: `Another or a newer one will. ${HELP_ANYWAY}` };
  }
}

export const MICROPHONE_GONE = {
  title: "The microphone is gone",
  text: "It was unplugged or taken away. What was recognized is on the page; connect it and start again.",
};

export function refusedNotice(message) {
  return { title: "The server refuses", text: `${message}.` };
}

export function recordingNotice(message) {
  return { title: "This recording cannot be used", text: message };
}

export const KEY_NEEDED = {
  title: "This server asks for a key",
  text: "Whoever runs it makes one with “streaming-asr keys add”. It is kept until this tab is closed.",
};

export const KEY_REFUSED = {
  title: "The server does not take this key",
  text: "It may be mistyped, or revoked. Whoever runs the server makes another with “streaming-asr keys add”.",
};

/**
 * While there is no connection. `status` is what the server says over HTTP, null when it says nothing; `kept` names the
 * audio that waits for it, if any.
 */
export function connectionNotice({ wasConnected, status, seconds, kept }) {
  const again = `Trying again in ${seconds} s.`;
  if (status === 503) return { title: "The server is full", text: `It carries as many sessions as it may. ${again}` };
  if (status === 429) return { title: "That is all this key or address may use", text: `For now, that is. ${again}` };
  if (status === 403) {
    return { title: "The server lets this page not in", text: "Start it with --allow-origin and this page's address." };
  }
  if (!wasConnected) return { title: "The server does not answer", text: `Is it running? ${again}` };
  const stays = kept === "" ? "What is on the page stays." : `What is on the page stays, and ${kept} is kept.`;
  return { title: "The connection is lost", text: `${stays} ${again}` };
}
