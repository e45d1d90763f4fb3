// Owns one recognition over any number of connections: sends audio as the server takes it, hands on its messages, and
// after a lost connection opens another and sends again what was not settled. Knows no page; socket and clock are given.

import { AudioLog } from "./audio_log.js";
import { SAMPLE_RATE } from "./pcm.js";

const FRAME_SAMPLES = 8000; // at most, a message
const MAX_BUFFERED_BYTES = 1 << 16; // in the browser, not yet in the network: from here on the server pushes back
const LOOK_AGAIN_MS = 50; // while it does; sockets say nothing when they drain
const STALLED_MS = 30_000; // nothing drained for so long: the connection is dead, whatever the network says
const CONNECT_MS = 10_000;
const KEEPALIVE_MS = 15_000; // the server's patience is 60 s
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const SETTLE_MARGIN_SECONDS = 0.2; // after the last word of a final, silence follows
const QUIET_SECONDS = 30; // without an open word, what the server could hear longer ago held none
const RETRIED_CODES = new Set(["idle", "internal", "server_full"]); // the server's other errors come again
const SKIPPED_SECONDS = 1; // of what has broken the server twice; each further time twice as much

/** Milliseconds to wait before attempt number `attempt` (from 0); `random` in 0..1 keeps clients from coming at once. */
export function retryDelay(attempt, random) {
  return Math.min(FIRST_RETRY_MS * 2 ** attempt, LAST_RETRY_MS) * (0.75 + 0.5 * random);
}

/**
 * Calls, all on `observer`:
 *   connecting()              a connection is being opened
 *   connected()               audio flows
 *   audioLost()               the server was away for longer than audio is kept: the open words will not come again
 *   message(message, offset)  from the server, whose time 0 is at `offset` seconds
 *   disconnected(retryMs)     the connection is gone, the next attempt follows in `retryMs`
 *   ended()                   everything was recognized
 *   failed(message)           the server refuses; nothing follows
 */
export class Recognition {
  /**
   * `connect()` makes a WebSocket; `clock` has now(), setTimeout(), clearTimeout() and random(); `start` holds fields of
   * the protocol's `start`; `offset` seconds come before the first sample; `keptSeconds` bounds the audio that is kept,
   * which without bound is all that no final has settled.
   */
  constructor({ connect, clock, observer, start = {}, offset = 0, keptSeconds = Infinity }) {
    this.connect = connect;
    this.clock = clock;
    this.observer = observer;
    this.isReady = false; // to take audio
    this.start = { type: "start", sample_rate: SAMPLE_RATE, ...start };
    this.offset = offset;
    this.log = new AudioLog(keptSeconds * SAMPLE_RATE);
    this.finalizes = []; // [{ position, isSent }] not yet answered
    this.hasEnded = false; // no more audio will come
    this.socket = null;
    this.timers = new Map();
    this.attempt = 0;
    this.openStart = null; // of the open utterance, samples
    this.recognized = 0; // where the last word ended that was ever recognized, samples
    this.broken = { position: -1, skipped: 0 }; // where that was when the server broke last; what to leave out, samples
    this.stall = null; // { buffered, since } while the server pushes back
    this.open();
  }

  // --- what the page asks ---------------------------------------------------------------------------------------

  /** Where the audio that was given ends, in seconds of the transcript. */
  get heardSeconds() {
    return this.offset + this.log.end / SAMPLE_RATE;
  }

  /** Whether there is audio that may hold words which are not settled. */
  get isOwed() {
    return this.log.end > this.log.start;
  }

  /** Gives 16-bit PCM at 16 kHz. */
  accept(pcm) {
    this.log.append(pcm);
    this.pump();
  }

  /** Settles everything given so far. */
  finalize() {
    this.finalizes.push({ position: this.log.end, isSent: false });
    this.pump();
  }

  /** No more audio; ended() follows. */
  finish() {
    this.hasEnded = true;
    this.pump();
  }

  /** Opens a connection now instead of later. */
  retryNow() {
    if (this.timers.has("retry")) this.open();
  }

  /** Gives everything up; nothing is called any more. */
  close() {
    this.clearTimers();
    this.socket?.close(1000);
    this.socket = null;
  }

  // --- connections ----------------------------------------------------------------------------------------------

  open() {
    this.clearTimers();
    this.isStopSent = false;
    this.readySince = null;
    this.base = this.log.start; // sample that is the session's first
    this.log.rewind();
    if (this.openStart !== null && this.openStart < this.log.start) this.observer.audioLost();
    this.openStart = null;
    for (const finalize of this.finalizes) finalize.isSent = false;
    this.observer.connecting();
    const socket = this.connect();
    this.socket = socket;
    socket.onopen = () => socket.send(JSON.stringify(this.start));
    socket.onmessage = ({ data }) => socket === this.socket && this.receive(JSON.parse(data));
    socket.onclose = () => socket === this.socket && this.lose();
    this.after("connect", CONNECT_MS, () => this.lose());
  }

  lose() {
    const socket = this.socket;
    this.socket = null;
    this.isReady = false;
    this.stall = null;
    this.clearTimers();
    socket.close();
    this.log.settle(this.openStart === null ? this.surelyQuietUntil() : this.openStart - SAMPLE_RATE);
    const delay = retryDelay(this.attempt++, this.clock.random());
    this.after("retry", delay, () => this.open());
    this.observer.disconnected(delay);
  }

  /**
   * Up to where the audio held no word, in samples. What was sent may still lie in the browser, the network or the
   * server; but that is at least as fast as speech.
   */
  surelyQuietUntil() {
    if (!Number.isFinite(this.log.limit) || this.readySince === null) return 0;
    const heard = this.base + ((this.clock.now() - this.readySince) / 1000) * SAMPLE_RATE;
    return Math.min(this.log.sent, heard) - QUIET_SECONDS * SAMPLE_RATE;
  }

  /** The server broke: if it did before without getting any further, ever more of what follows is not sent again. */
  skipWhatBreaks() {
    const { position, skipped } = this.broken;
    const isAgain = position === this.recognized;
    this.broken = { position: this.recognized, skipped: isAgain ? 2 * skipped || SKIPPED_SECONDS * SAMPLE_RATE : 0 };
    if (isAgain) this.log.settle(Math.min(this.recognized + this.broken.skipped, this.log.sent));
  }

  fail(message) {
    this.close();
    this.observer.failed(message);
  }

  // --- messages -------------------------------------------------------------------------------------------------

  receive(message) {
    const at = (seconds) => this.base + seconds * SAMPLE_RATE;
    switch (message.type) {
      case "ready":
        this.attempt = 0;
        this.isReady = true;
        this.readySince = this.clock.now();
        this.clearTimer("connect");
        this.keepAlive();
        this.observer.connected();
        break;
      case "partial":
        this.openStart ??= at(message.start);
        this.recognized = Math.max(this.recognized, at(message.end));
        break;
      case "final":
        this.openStart = null;
        this.recognized = Math.max(this.recognized, at(message.end));
        this.log.settle(this.settledBy(message, at));
        break;
      case "error":
        if (message.code === "internal") this.skipWhatBreaks();
        if (!RETRIED_CODES.has(message.code)) this.fail(message.message);
        return;
    }
    this.observer.message(message, this.offset + this.base / SAMPLE_RATE);
    if (message.type === "done") this.finishSession(at(message.audio_seconds));
    else this.pump();
  }

  /** Up to where a final settles the audio. */
  settledBy({ reason, end }, at) {
    if (reason === "finalize" && this.finalizes.length > 0) return this.finalizes.shift().position;
    return Math.min(at(end + SETTLE_MARGIN_SECONDS), this.log.sent);
  }

  /** The server is done: with everything, or, shutting down, with what it got. */
  finishSession(position) {
    this.log.settle(position);
    if (this.isStopSent) {
      this.close();
      this.observer.ended();
    }
  }

  // --- audio ----------------------------------------------------------------------------------------------------

  /** Sends what the socket takes, in order: audio, finalizes between, the end. */
  pump() {
    if (!this.isReady || this.isStopSent) return;
    for (;;) {
      const finalize = this.finalizes.find(({ isSent }) => !isSent);
      if (this.socket.bufferedAmount > MAX_BUFFERED_BYTES) return this.waitForRoom();
      this.stall = null;
      const pcm = this.log.take(FRAME_SAMPLES, finalize?.position);
      if (pcm.length > 0) {
        this.send(pcm);
      } else if (finalize !== undefined) {
        finalize.isSent = true;
        this.send('{"type": "finalize"}');
      } else break;
    }
    if (this.hasEnded) {
      this.isStopSent = true;
      this.send('{"type": "stop"}');
    }
  }

  send(data) {
    this.socket.send(data);
    this.keepAlive();
  }

  waitForRoom() {
    const buffered = this.socket.bufferedAmount;
    if (this.stall === null || buffered < this.stall.buffered) this.stall = { buffered, since: this.clock.now() };
    if (this.clock.now() - this.stall.since > STALLED_MS) return this.lose();
    if (!this.timers.has("room")) this.after("room", LOOK_AGAIN_MS, () => this.pump());
  }

  keepAlive() {
    this.after("keepalive", KEEPALIVE_MS, () => this.send('{"type": "keepalive"}'));
  }

  // --- timers ---------------------------------------------------------------------------------------------------

  after(name, milliseconds, action) {
    this.clearTimer(name);
    const timer = this.clock.setTimeout(() => {
      this.timers.delete(name);
      action();
    }, milliseconds);
    this.timers.set(name, timer);
  }

  clearTimer(name) {
    this.clock.clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }

  clearTimers() {
    for (const name of [...this.timers.keys()]) this.clearTimer(name);
  }
}
