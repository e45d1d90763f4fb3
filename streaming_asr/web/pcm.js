// Owns samples as numbers: the wire's 16-bit PCM, and how loud it is. Pure.

export const SAMPLE_RATE = 16000;
const QUIETEST_DB = -56; // of full scale, where a level meter begins
const LOUDEST_DB = -8; // and ends: the loudest speech

/** Float samples, -1 to 1, as 16-bit ones; what is louder is clipped. */
export function toPcm16(samples) {
  const pcm = new Int16Array(samples.length);
  for (let i = 0; i < samples.length; i++) {
    pcm[i] = Math.max(-32768, Math.min(32767, Math.round(samples[i] * 32768)));
  }
  return pcm;
}

/** The average of several channels (Float32Array each, equally long). */
export function mixDown(channels) {
  if (channels.length === 1) return channels[0];
  const mixed = new Float32Array(channels[0].length);
  for (const channel of channels) {
    for (let i = 0; i < mixed.length; i++) mixed[i] += channel[i] / channels.length;
  }
  return mixed;
}

/** How loud 16-bit samples are, for a level meter: 0 (silence) to 1 (the loudest speech), even in decibels. */
export function level(pcm) {
  if (pcm.length === 0) return 0;
  let energy = 0;
  for (const sample of pcm) energy += sample * sample;
  const db = 10 * Math.log10(energy / pcm.length / (32768 * 32768));
  return Math.max(0, Math.min(1, (db - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB)));
}
