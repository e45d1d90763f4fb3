// Owns the forms in which a transcript leaves the page: plain text, SRT, WebVTT, JSON. Pure; utterances in, text out.
// Subtitles are cut as `streaming-asr transcribe` cuts them.

import { asWritten } from "./written.js";

const MAX_CUE_SECONDS = 6;
const MAX_CUE_CHARACTERS = 84; // two lines of 42, the usual limit for subtitles

/** name: { label, type, write(utterances) } */
export const FORMATS = {
  txt: { label: "Plain text", type: "text/plain", write: toText },
  srt: { label: "SubRip subtitles", type: "application/x-subrip", write: toSrt },
  vtt: { label: "WebVTT subtitles", type: "text/vtt", write: toVtt },
  json: { label: "With words and times", type: "application/json", write: toJson },
};

/** One line for each utterance. */
export function toText(utterances) {
  return utterances.map(({ formatted }) => `${formatted}\n`).join("");
}

export function toSrt(utterances) {
  const time = (seconds) => timestamp(seconds, ",");
  return cues(utterances)
    .map(({ start, end, text }, i) => `${i + 1}\n${time(start)} --> ${time(end)}\n${text}\n\n`)
    .join("");
}

export function toVtt(utterances) {
  const time = (seconds) => timestamp(seconds, ".");
  const body = cues(utterances).map(({ start, end, text }) => `${time(start)} --> ${time(end)}\n${escapeVtt(text)}\n\n`);
  return `WEBVTT\n\n${body.join("")}`;
}

export function toJson(utterances) {
  return `${JSON.stringify({ text: utterances.map(({ text }) => text).join(" "), utterances }, null, 2)}\n`;
}

/** Cues of readable length: [{ start, end, text }]. An utterance whose words have no times is one cue. */
export function cues(utterances) {
  return utterances.flatMap(({ formatted, start, end, words }) =>
    words.length === 0 ? [{ start, end, text: formatted }] : cut(asWritten(words)).map(toCue),
  );
}

function cut(words) {
  const parts = [];
  let part = [];
  for (const word of words) {
    const text = toLine([...part, word]);
    const isFull = part.length > 0 && (word.end - part[0].start > MAX_CUE_SECONDS || text.length > MAX_CUE_CHARACTERS);
    if (isFull) {
      parts.push(part);
      part = [];
    }
    part.push(word);
  }
  return [...parts, part];
}

function toCue(words) {
  return { start: words[0].start, end: words.at(-1).end, text: toLine(words) };
}

function toLine(words) {
  return words.map(({ written }) => written).join(" ");
}

function timestamp(seconds, separator) {
  const milliseconds = Math.round(seconds * 1000);
  const digits = (value, count) => String(value).padStart(count, "0");
  const hours = Math.floor(milliseconds / 3_600_000);
  const minutes = Math.floor(milliseconds / 60_000) % 60;
  const whole = Math.floor(milliseconds / 1000) % 60;
  return `${digits(hours, 2)}:${digits(minutes, 2)}:${digits(whole, 2)}${separator}${digits(milliseconds % 1000, 3)}`;
}

function escapeVtt(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
