// Owns the level meter: a strip of bars, the newest at the right.

const NUM_BARS = 32;
const BLOCKS_PER_BAR = 3; // 60 ms

export class Meter {
  constructor(element) {
    this.bars = Array.from({ length: NUM_BARS }, () => element.appendChild(document.createElement("i")));
    this.reset();
  }

  /** Takes the level (0..1) of each 20 ms block; a bar is as high as its loudest. */
  accept(level) {
    this.loudest = Math.max(this.loudest, level);
    if (++this.count < BLOCKS_PER_BAR) return;
    this.draw([...this.levels.slice(1), this.loudest]);
  }

  reset() {
    this.draw(new Array(NUM_BARS).fill(0));
  }

  draw(levels) {
    this.levels = levels;
    this.loudest = 0;
    this.count = 0;
    this.bars.forEach((bar, i) => bar.style.setProperty("--level", levels[i].toFixed(3)));
  }
}
