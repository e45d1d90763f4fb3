// Owns the latency read-out: from the end of a word, as it was spoken, to its appearance. Pure; told the time.

const KEPT_BLOCKS = 3000; // a minute of 20 ms blocks: words later than that are not live
const KEPT_LATENCIES = 9;

export class LatencyMeter {
  constructor() {
    this.blocks = []; // [{ seconds, now }]: audio up to `seconds` had been heard at `now`, milliseconds
    this.latest = -Infinity; // end of the last word that appeared
    this.latencies = [];
  }

  /** The microphone had been heard up to `seconds` of audio. */
  heard(seconds, now) {
    this.blocks.push({ seconds, now });
    if (this.blocks.length > KEPT_BLOCKS) this.blocks.shift();
  }

  /** Words up to `seconds` of audio are on the page. */
  shown(seconds, now) {
    if (seconds <= this.latest) return; // no new word
    this.latest = seconds;
    const block = this.blocks.find((one) => one.seconds >= seconds);
    if (block === undefined || block === this.blocks[0]) return; // older than what is kept
    this.latencies = [...this.latencies, now - block.now].slice(-KEPT_LATENCIES);
  }

  /** The median of the last words' latencies, milliseconds; null before the first word. */
  get median() {
    return [...this.latencies].sort((a, b) => a - b)[this.latencies.length >> 1] ?? null;
  }
}
