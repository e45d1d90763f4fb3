// Owns the transcript: the server's messages in, what is to be shown out. Pure; knows no page and no socket.
// Times are seconds from the first sample of the transcript; a session that begins later has an `offset`.

const SAME_END_SECONDS = 0.5; // a word that is heard again may end a little earlier or later

/** Settled utterances, and the one that is being spoken. */
export class Transcript {
  constructor() {
    // [{ text, formatted, start, end, confidence, words: [{ word, start, end, confidence, written }] }]: what was said, and
    // the same as people write it
    this.utterances = [];
    this.open = null; // { committed, unstable, start, end }
    this.speaking = false;
    this.held = false; // the open utterance was begun on a connection that is lost, and is being heard again
  }

  get isEmpty() {
    return this.utterances.length === 0 && this.open === null;
  }

  /** Words that are shown, also those that may still change. */
  get numWords() {
    const texts = [...this.utterances.map(({ text }) => text), this.openText];
    return texts.reduce((sum, text) => sum + text.split(" ").filter(Boolean).length, 0);
  }

  get openText() {
    return this.open === null ? "" : `${this.open.committed} ${this.open.unstable}`.trim();
  }

  /** Takes one message of a session whose time 0 is the transcript's `offset`. */
  accept(message, offset = 0) {
    switch (message.type) {
      case "speech_started":
        this.speaking = true;
        break;
      case "partial":
        this.acceptPartial(shift(message, offset));
        break;
      case "final":
        this.acceptFinal(shift(message, offset));
        break;
    }
  }

  acceptPartial({ committed, unstable, start, end }) {
    // What was on the page stays there until it was heard again.
    if (this.held && end < this.open.end - SAME_END_SECONDS) return;
    this.held = false;
    this.speaking = true;
    this.open = { committed, unstable, start, end };
  }

  acceptFinal({ text, formatted = text, start, end, confidence, reason, words = [] }) {
    if (text !== "") this.utterances.push({ text, formatted, start, end, confidence, words });
    if (this.held && reason === "endpoint" && end < this.open.end - SAME_END_SECONDS) return;
    this.held = false;
    this.open = null;
    this.speaking = false;
  }

  /** The connection was lost; its audio will be heard again. */
  interrupt() {
    this.held = this.open !== null;
    this.speaking = false;
  }

  /** No more will come: keeps what is open as it stands. */
  settle() {
    if (this.open !== null) {
      const { start, end } = this.open;
      const text = this.openText;
      this.utterances.push({ text, formatted: text, start, end, confidence: null, words: [] });
    }
    this.open = null;
    this.held = false;
    this.speaking = false;
  }
}

function shift(message, offset) {
  const moved = (span) => ({ ...span, start: span.start + offset, end: span.end + offset });
  return { ...moved(message), ...(message.words && { words: message.words.map(moved) }) };
}
