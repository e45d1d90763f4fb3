// Owns the audio that may still be needed: what was not sent yet, and what was sent and is not settled by a final. After
// a lost connection it is sent again, so that no word is lost. Pure. Positions count samples from the first one ever.

/** A stretch of 16-bit PCM, from `start` (what came before was settled) to `end`, of which all before `sent` was sent. */
export class AudioLog {
  /** Keeps `limit` samples at most: older ones give way. */
  constructor(limit = Infinity) {
    this.limit = limit;
    this.blocks = []; // [{ position, pcm }], one after another
    this.start = 0;
    this.sent = 0;
    this.end = 0;
  }

  append(pcm) {
    if (pcm.length === 0) return;
    this.blocks.push({ position: this.end, pcm });
    this.end += pcm.length;
    this.settle(this.end - this.limit);
  }

  /** The next samples to send, `length` at most and none from `until` on; empty when there are none. */
  take(length, until = Infinity) {
    const last = Math.min(this.sent + length, this.end, until);
    const taken = new Int16Array(Math.max(0, last - this.sent));
    for (const { position, pcm } of this.blocks) {
      if (position >= last) break;
      const from = Math.max(0, this.sent - position);
      const part = pcm.subarray(from, Math.min(pcm.length, last - position));
      if (from < pcm.length) taken.set(part, position + from - this.sent);
    }
    this.sent += taken.length;
    return taken;
  }

  /** Forgets what lies before `position`. */
  settle(position) {
    this.start = Math.max(this.start, Math.min(Math.round(position), this.end));
    this.sent = Math.max(this.sent, this.start);
    const kept = this.blocks.findIndex((block) => block.position + block.pcm.length > this.start);
    this.blocks.splice(0, kept === -1 ? this.blocks.length : kept);
  }

  /** Everything that is kept is to be sent again. */
  rewind() {
    this.sent = this.start;
  }
}
