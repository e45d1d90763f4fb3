// Owns how a transcript looks: settled utterances as lines of words, the open one below, a word's confidence on hover.

import { asWritten } from "./written.js";

const UNSURE = 0.5; // confidence below which a word is marked

/** Shows a Transcript in two elements: `settled` (its additions are read to people who do not see) and `open`. */
export class TranscriptView {
  constructor({ settled, open, tip }) {
    this.settled = settled;
    this.open = open;
    this.tip = tip;
    this.shown = []; // the utterances that have a line
    for (const kind of ["pointerover", "click"]) settled.addEventListener(kind, ({ target }) => this.showTip(target));
    settled.addEventListener("pointerleave", () => this.showTip(null));
  }

  show({ utterances, open, held }) {
    if (this.shown.some((utterance, i) => utterances[i] !== utterance)) {
      this.settled.replaceChildren();
      this.shown = [];
    }
    this.settled.append(...utterances.slice(this.shown.length).map(lineOf));
    this.shown = [...utterances];
    this.open.hidden = open === null;
    if (open === null) return;
    const [time, committed, unstable] = this.open.children;
    time.textContent = clock(open.start);
    committed.textContent = open.committed;
    unstable.textContent = open.unstable;
    this.open.classList.toggle("held", held);
  }

  showTip(target) {
    const word = target?.closest("[data-confidence]");
    this.tip.hidden = !word;
    if (!word) return;
    this.tip.textContent = `${word.dataset.confidence} % sure · ${word.dataset.time}`;
    const { left, top, width } = word.getBoundingClientRect();
    const room = document.documentElement.clientWidth - this.tip.offsetWidth - 8;
    this.tip.style.left = `${Math.max(8, Math.min(room, left + width / 2 - this.tip.offsetWidth / 2))}px`;
    this.tip.style.top = `${top - this.tip.offsetHeight - 6}px`;
  }
}

function lineOf({ formatted, start, words }) {
  const content = element("span", "text");
  if (words.length === 0) content.textContent = formatted;
  for (const word of asWritten(words)) content.append(wordOf(word), " ");
  const line = element("p", "line");
  line.append(element("time", "time", clock(start)), content);
  return line;
}

function wordOf({ written, start, confidence }) {
  const span = element("span", confidence < UNSURE ? "word unsure" : "word", written);
  span.dataset.confidence = String(Math.round(confidence * 100));
  span.dataset.time = clock(start);
  return span;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

/** Seconds as people write them: 0:07, 12:30, 1:02:03. */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const digits = (value) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${digits(minutes)}:${digits(whole % 60)}` : `${minutes}:${digits(whole % 60)}`;
}
