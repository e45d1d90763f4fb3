// Owns the audio thread's end of the microphone: posts blocks of 16-bit PCM at 16 kHz.

import { mixDown, SAMPLE_RATE, toPcm16 } from "./pcm.js";
import { Resampler } from "./resampler.js";

const BLOCK_SAMPLES = 320; // 20 ms

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, SAMPLE_RATE); // sampleRate: the context's, a global here
    this.block = new Float32Array(BLOCK_SAMPLES);
    this.filled = 0;
  }

  process([channels]) {
    if (channels.length === 0) return true; // nothing is connected yet
    for (const sample of this.resampler.accept(mixDown(channels))) {
      this.block[this.filled++] = sample;
      if (this.filled === BLOCK_SAMPLES) {
        const pcm = toPcm16(this.block);
        this.port.postMessage(pcm, [pcm.buffer]);
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
