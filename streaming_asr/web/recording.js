// Owns recordings: a file in any format that the browser reads, as 16-bit PCM at 16 kHz.

import { mixDown, SAMPLE_RATE, toPcm16 } from "./pcm.js";

const MAX_FILE_BYTES = 256 * 2 ** 20; // it is decoded in memory

/** A recording that cannot be used; `message` says why, to people. */
export class RecordingError extends Error {}

/** All samples of `file`. Rejects with RecordingError. */
export async function decodeRecording(file) {
  if (file.size > MAX_FILE_BYTES) {
    throw new RecordingError(`“${file.name}” is larger than ${MAX_FILE_BYTES / 2 ** 20} MB. Cut it into parts.`);
  }
  let decoded;
  try {
    // A context of our rate makes the browser resample, too.
    decoded = await new OfflineAudioContext(1, 1, SAMPLE_RATE).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new RecordingError(
      `This browser finds no sound in “${file.name}” that it can read. WAV, MP3, M4A, Ogg and FLAC usually work.`,
    );
  }
  return toPcm16(mixDown(Array.from({ length: decoded.numberOfChannels }, (_, i) => decoded.getChannelData(i))));
}
