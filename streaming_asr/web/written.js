// Owns how words are shown to people: as the server wrote them, or as they were said where it did not. Pure.

/** Words with `written` always there; those that the figures of the one before say, too, are joined to it. */
export function asWritten(words) {
  const joined = [];
  for (const word of words) {
    const before = joined.at(-1);
    if (word.written !== "" || before === undefined) {
      joined.push({ ...word, written: word.written || word.word });
      continue;
    }
    const confidence = Math.min(before.confidence, word.confidence);
    joined[joined.length - 1] = { ...before, word: `${before.word} ${word.word}`, end: word.end, confidence };
  }
  return joined;
}
