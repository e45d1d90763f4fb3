// Owns the page: what its buttons, keys and drops do, and what is shown when. Everything that can be decided without a
// page is decided in the modules it imports.

import { FORMATS, toText } from "./formats.js";
import { LatencyMeter } from "./latency.js";
import { Meter } from "./meter.js";
import { openMicrophone } from "./microphone.js";
import * as notices from "./notices.js";
import { level, SAMPLE_RATE } from "./pcm.js";
import { Recognition } from "./recognition.js";
import { decodeRecording, RecordingError } from "./recording.js";
import { Transcript } from "./transcript.js";
import { clock, TranscriptView } from "./view.js";

const KEPT_SECONDS = 600; // of what is said while the server is away
const PACE_MS = 100; // between the blocks of a recording at the pace of speech
const EXPLAIN_MS = 1000; // for the server to say why there is no connection, before it is taken to be silent

const $ = (id) => document.getElementById(id);
const view = new TranscriptView({ settled: $("settled"), open: $("open"), tip: $("tip") });
const meter = new Meter($("meter"));

let transcript = new Transcript();
let spoken = 0; // seconds of audio that the transcript stands for so far: where the next session begins
let key = sessionStorage.getItem("key"); // where the server asks for one
/** What runs: { kind: "microphone" | "recording", phase, ... } from start to end; null when nothing does. */
let run = null;
let answered = () => {}; // takes the answer to the question that is asked

// --- what runs -----------------------------------------------------------------------------------------------------

/** Phases: "opening" the source, "live", "paused", "finishing". */
function begin(kind, extra = {}) {
  hideNotice();
  run = { kind, phase: "opening", isConnected: false, wasConnected: false, recognized: spoken, ...extra };
  closeMenus();
  render();
  return run;
}

function connectRun() {
  const self = run;
  const hotwords = $("hotwords").value.split(",").map((word) => word.trim()).filter(Boolean);
  self.latency = new LatencyMeter();
  self.recognition = new Recognition({
    connect: () => new WebSocket(serverUrl("v1/stream", true), key === null ? [] : ["bearer", key]),
    clock: {
      now: () => performance.now(),
      random: Math.random,
      setTimeout: (action, milliseconds) => setTimeout(action, milliseconds),
      clearTimeout: (timer) => clearTimeout(timer),
    },
    start: {
      ...(hotwords.length > 0 && { hotwords, ...($("only-hotwords").checked && { only_hotwords: true }) }),
      ...(!$("formatted").checked && { formatted: false }),
    },
    offset: spoken,
    keptSeconds: self.kind === "microphone" ? KEPT_SECONDS : Infinity,
    observer: {
      connecting: () => render(),
      connected: () => {
        self.isConnected = self.wasConnected = true;
        self.latency = new LatencyMeter(); // what is caught up with is not live
        self.inquiry?.abort();
        hideNotice();
        render();
      },
      disconnected: (milliseconds) => {
        self.isConnected = false;
        self.latency = new LatencyMeter();
        transcript.interrupt();
        explainDisconnect(self, Math.max(1, Math.round(milliseconds / 1000)));
        render();
      },
      audioLost: () => transcript.settle(),
      message: (message, offset) => receive(self, message, offset),
      ended: () => end(),
      failed: (message) => {
        end();
        showNotice(notices.refusedNotice(message));
      },
    },
  });
}

function serverUrl(path, isSocket = false) {
  const url = new URL(path, location.href);
  url.search = url.hash = "";
  if (isSocket) url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

function receive(self, message, offset) {
  transcript.accept(message, offset);
  if (message.type === "partial" || message.type === "final") {
    self.recognized = Math.max(self.recognized, message.end + offset);
    if (message.type === "partial") self.latency.shown(message.end + offset, performance.now());
  }
  if (message.type === "done") self.recognized = offset + message.audio_seconds;
  render();
}

/**
 * Sockets do not say why they were refused; the same address over HTTP does, or is silent, too. The answer counts until
 * there is a connection, another one is lost, or nobody wants one.
 */
async function explainDisconnect(self, seconds) {
  self.inquiry?.abort();
  const inquiry = (self.inquiry = new AbortController());
  const explain = (status) => {
    if (inquiry.signal.aborted) return;
    if (status === 401) return askForKey(self);
    const { wasConnected, kind, phase } = self;
    const kept = kind !== "microphone" ? "" : phase === "finishing" ? "what you said" : "what you say";
    showNotice(notices.connectionNotice({ wasConnected, status, seconds, kept }), {
      label: "Try now",
      act: () => self.recognition.retryNow(),
    });
  };
  const silence = setTimeout(() => explain(null), EXPLAIN_MS);
  const headers = key === null ? {} : { Authorization: `Bearer ${key}` };
  // Past the cache, which makes a request wait while another one for the same address hangs.
  const options = { headers, cache: "no-store", signal: inquiry.signal };
  const response = await fetch(serverUrl("v1/stream"), options).catch(() => null);
  clearTimeout(silence);
  explain(response?.status ?? null);
}

async function askForKey(self) {
  if ($("question").open) return;
  const notice = key === null ? notices.KEY_NEEDED : notices.KEY_REFUSED;
  $("key-field").hidden = false;
  const answer = await ask({ ...notice, first: "Use the key", focus: "key" });
  $("key-field").hidden = true;
  if (run !== self) return;
  if (answer === "cancel" || $("key").value === "") return end();
  self.inquiry.abort(); // it was made without this key
  key = $("key").value.trim();
  sessionStorage.setItem("key", key);
  self.recognition.retryNow();
}

/** Everything was recognized, or nothing more will be. */
function end() {
  const { recognition, microphone, feeder, inquiry, farewell } = run;
  clearInterval(feeder);
  inquiry?.abort();
  microphone?.close();
  recognition?.close();
  spoken = recognition?.heardSeconds ?? spoken;
  transcript.settle();
  meter.reset();
  run = null;
  if (farewell) showNotice(farewell);
  else hideNotice();
  render();
}

/** Takes no more audio and waits for the last words, and for the server if it is away; asked again, for nothing. */
function stop() {
  if (run.phase === "finishing" || !(run.isConnected || (run.wasConnected && run.recognition.isOwed))) return end();
  run.phase = "finishing";
  clearInterval(run.feeder);
  run.microphone?.close();
  meter.reset();
  run.recognition.finish();
  if (!run.isConnected) {
    hideNotice(); // which speaks of what is being said
    run.recognition.retryNow();
  }
  render();
}

// --- microphone ----------------------------------------------------------------------------------------------------

async function listen() {
  const self = begin("microphone");
  const onAudio = (pcm) => {
    if (run !== self || self.phase !== "live") return;
    self.recognition.accept(pcm);
    self.latency.heard(self.recognition.heardSeconds, performance.now());
    meter.accept(level(pcm));
    $("elapsed").textContent = clock(self.recognition.heardSeconds);
  };
  const onEnded = () => {
    if (run !== self) return;
    self.farewell = notices.MICROPHONE_GONE; // stays when the last words have come
    showNotice(self.farewell);
    stop();
  };
  let microphone;
  try {
    microphone = await openMicrophone(onAudio, onEnded);
  } catch (error) {
    if (run !== self) return;
    end();
    showNotice(notices.microphoneNotice(error.name, location));
    return;
  }
  if (run !== self) return microphone.close(); // stopped while the browser was asking
  self.microphone = microphone;
  self.phase = "live";
  connectRun();
  render();
}

function pauseOrResume() {
  if (run.phase === "live") {
    run.phase = "paused";
    run.recognition.finalize();
    meter.reset();
  } else {
    run.phase = "live";
  }
  run.microphone.setPaused(run.phase === "paused");
  render();
}

// --- recordings ----------------------------------------------------------------------------------------------------

async function transcribe(file) {
  if (run !== null) {
    showNotice({ title: "Something is running already", text: "Stop it, then open the recording." });
    return;
  }
  if (!transcript.isEmpty) {
    const answer = await ask({
      title: "There is text on the page",
      text: `Begin anew with “${file.name}”, or add it below? Subtitles fit a recording that begins the page.`,
      first: "Begin anew",
      second: "Add below",
    });
    if (answer === "cancel") return;
    if (answer === "first") clear();
  }
  const self = begin("recording", { name: file.name });
  let pcm;
  try {
    pcm = await decodeRecording(file);
  } catch (error) {
    if (!(error instanceof RecordingError)) throw error;
    if (run === self) end();
    showNotice(notices.recordingNotice(error.message));
    return;
  }
  if (run !== self) return;
  Object.assign(self, { phase: "live", began: spoken, seconds: pcm.length / SAMPLE_RATE, startedAt: performance.now() });
  connectRun();
  if (document.querySelector("[name=speed]:checked").value === "speech") feedSlowly(self, pcm);
  else {
    self.recognition.accept(pcm);
    self.recognition.finish();
  }
  render();
}

function feedSlowly(self, pcm) {
  let position = 0;
  self.isSlow = true;
  self.feeder = setInterval(() => {
    const due = Math.round(((performance.now() - self.startedAt) / 1000) * SAMPLE_RATE);
    const block = pcm.subarray(position, due);
    position += block.length;
    self.recognition.accept(block);
    self.latency.heard(self.recognition.heardSeconds, performance.now());
    if (position < pcm.length) return;
    clearInterval(self.feeder);
    self.recognition.finish();
  }, PACE_MS);
}

// --- the transcript's tools ----------------------------------------------------------------------------------------

/** What leaves the page: the settled utterances. */
function download(name) {
  const { type, write } = FORMATS[name];
  const url = URL.createObjectURL(new Blob([write(transcript.utterances)], { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `transcript.${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
  closeMenus();
}

async function copy() {
  const text = toText(transcript.utterances);
  if (navigator.clipboard) await navigator.clipboard.writeText(text);
  else copyBySelection(text); // not a secure context
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 2000);
}

function copyBySelection(text) {
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

async function askAndClear() {
  const answer = await ask({
    title: "Clear the transcript?",
    text: "The text leaves the page and cannot be brought back.",
    first: "Clear",
  });
  if (answer === "first") clear();
}

function clear() {
  transcript = new Transcript();
  spoken = 0;
  hideNotice();
  render();
}

// --- what is shown -------------------------------------------------------------------------------------------------

function status() {
  if (run === null) return ["idle", "Ready"];
  if (run.phase === "opening") return ["busy", run.kind === "microphone" ? "Opening the microphone…" : "Reading the file…"];
  if (!run.isConnected) return ["waiting", run.wasConnected ? "Reconnecting…" : "Connecting…"];
  if (run.phase === "finishing") return ["busy", "Finishing…"];
  if (run.phase === "paused") return ["busy", "Paused"];
  return run.kind === "microphone" ? ["live", "Listening"] : ["busy", "Transcribing"];
}

function render() {
  const isMicrophone = run?.kind === "microphone" && run.phase !== "opening";
  const isRecording = run?.kind === "recording" && run.phase !== "opening";
  const isAtEnd = scrollY + innerHeight > document.documentElement.scrollHeight - 120;

  const [state, words] = status();
  $("status").dataset.state = state;
  setText("status-text", words);

  $("empty").hidden = run !== null || !transcript.isEmpty;
  $("tools").hidden = !$("empty").hidden;
  view.show(transcript);
  const count = transcript.numWords;
  setText("count", count === 0 ? "No words yet" : `${count} ${count === 1 ? "word" : "words"}`);
  for (const id of ["copy", "clear"]) $(id).disabled = transcript.utterances.length === 0;
  $("clear").disabled ||= run !== null;
  $("download").hidden = transcript.utterances.length === 0;

  setText("start-text", run === null ? "Start listening" : run.phase === "finishing" ? "Finishing…" : "Stop");
  $("start").dataset.running = String(run !== null);
  $("start").title = run?.phase === "finishing" ? "Press again to wait no longer" : "";
  $("choose").hidden = run !== null;
  $("pause").hidden = $("finalize").hidden = !isMicrophone || run.phase === "finishing";
  setText("pause", run?.phase === "paused" ? "Resume" : "Pause");
  $("finalize").disabled = run?.phase === "paused";
  $("options").hidden = run !== null;

  $("live").hidden = !isMicrophone;
  $("speech").dataset.speaking = String(transcript.speaking);
  setText("speech", run?.isConnected === false ? "Waiting" : transcript.speaking ? "Speech" : "Quiet");
  $("progress").hidden = !isRecording;
  $("figures").hidden = !isMicrophone && !isRecording;
  if (isRecording) {
    const seconds = run.recognized - run.began;
    $("progress").value = seconds / run.seconds;
    setText("elapsed", `${clock(seconds)} of ${clock(run.seconds)}`);
  }
  renderPace(isRecording && !run.isSlow);
  if (isAtEnd && run !== null) scrollTo(0, document.documentElement.scrollHeight);
}

function renderPace(isFast) {
  setText("pace-name", isFast ? "Speed" : "Delay");
  if (!run?.latency) return;
  const delay = run.latency.median;
  const speed = (run.recognized - run.began) / ((performance.now() - run.startedAt) / 1000);
  if (isFast) setText("pace", speed > 0 ? `${speed.toFixed(speed < 10 ? 1 : 0)} ×` : "–");
  else setText("pace", delay === null ? "–" : `${Math.round(delay)} ms`);
}

/** Only changes are read aloud. */
function setText(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function showNotice({ title, text }, action = { label: "Dismiss", act: hideNotice }) {
  $("notice-title").textContent = title;
  $("notice-text").textContent = text;
  $("notice-action").textContent = action.label;
  $("notice-action").onclick = action.act;
  $("notice").hidden = false;
}

function hideNotice() {
  $("notice").hidden = true;
}

/** Asks in a dialog; resolves with "first", "second" or "cancel", as does a question that another one replaces. */
function ask({ title, text, first, second, focus = "question-first" }) {
  const dialog = $("question");
  answered("cancel");
  $("question-title").textContent = title;
  $("question-text").textContent = text;
  $("question-first").textContent = first;
  $("question-second").textContent = second ?? "";
  $("question-second").hidden = second === undefined;
  dialog.returnValue = "cancel";
  dialog.showModal();
  $(focus).focus();
  return new Promise((resolve) => (answered = resolve));
}

/** Comes a frame after the dialog was closed: by then it may be open with another question. */
function onQuestionClosed({ target: { open, returnValue } }) {
  if (open) return;
  answered(["first", "second"].includes(returnValue) ? returnValue : "cancel"); // Escape may leave "" there
}

function closeMenus(except = null) {
  for (const menu of document.querySelectorAll(".menu[open]")) if (menu !== except) menu.open = false;
}

// --- colours -------------------------------------------------------------------------------------------------------

const systemDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = localStorage.getItem("theme");
  return chosen === null ? systemDark.matches : chosen === "dark";
}

function showTheme() {
  const chosen = localStorage.getItem("theme");
  if (chosen !== null) document.documentElement.dataset.theme = chosen;
  $("theme").setAttribute("aria-pressed", String(isDark()));
}

function switchTheme() {
  localStorage.setItem("theme", isDark() ? "light" : "dark");
  showTheme();
}

// --- buttons, keys, drops ------------------------------------------------------------------------------------------

const press = (id) => () => $(id).checkVisibility() && $(id).click();
const KEYS = {
  s: { words: "Start, stop", act: press("start") },
  p: { words: "Pause, resume", act: press("pause") },
  f: { words: "Finalize: settle what was said", act: press("finalize") },
  o: { words: "Open a recording", act: press("choose") },
  c: { words: "Copy the text", act: press("copy") },
  d: { words: "Download", act: () => openDownloads() },
  t: { words: "Dark or light", act: press("theme") },
  "?": { words: "These shortcuts", act: press("shortcuts-button") },
};

function openDownloads() {
  if ($("download").hidden) return;
  $("download").open = true;
  $("formats").firstElementChild.focus();
}

function onKey(event) {
  if (event.key === "Escape") {
    const menu = document.querySelector(".menu[open]");
    if (menu?.contains(document.activeElement)) menu.firstElementChild.focus();
    closeMenus();
  }
  const isTyping = event.target.matches("input[type=text], input[type=password]");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (!$("keys-on").checked || document.querySelector("dialog[open]")) return;
  const key = KEYS[event.key.toLowerCase()];
  if (key === undefined) return;
  event.preventDefault();
  key.act();
}

function carriesFile(event) {
  return event.dataTransfer?.types.includes("Files") ?? false;
}

function wireButtons() {
  $("start").onclick = () => (run === null ? listen() : stop());
  $("pause").onclick = pauseOrResume;
  $("finalize").onclick = () => run.recognition.finalize();
  $("choose").onclick = () => $("file").click();
  $("file").onchange = ({ target }) => {
    const [file] = target.files;
    target.value = ""; // so that the same one can be chosen again
    if (file) transcribe(file);
  };
  $("copy").onclick = copy;
  $("clear").onclick = askAndClear;
  $("theme").onclick = switchTheme;
  $("question-cancel").onclick = () => $("question").close("cancel");
  $("question").onclose = onQuestionClosed;
  $("shortcuts-button").onclick = () => $("shortcuts").showModal();
  for (const [name, { label }] of Object.entries(FORMATS)) {
    const button = document.createElement("button");
    const extension = document.createElement("kbd");
    extension.textContent = name;
    button.type = "button";
    button.append(label, extension);
    button.onclick = () => download(name);
    $("formats").append(button);
  }
  for (const [key, { words }] of Object.entries(KEYS)) {
    const [term, description, cap] = ["dt", "dd", "kbd"].map((name) => document.createElement(name));
    term.textContent = words;
    cap.textContent = key.toUpperCase();
    description.append(cap);
    $("keys").append(term, description);
  }
}

function wireWindow() {
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", ({ target }) => closeMenus(target.closest(".menu")));
  $("keys-on").checked = localStorage.getItem("keys") !== "off";
  $("keys-on").onchange = ({ target }) => localStorage.setItem("keys", target.checked ? "on" : "off");
  systemDark.addEventListener("change", showTheme);
  addEventListener("scroll", () => view.showTip(null), { passive: true });
  addEventListener("online", () => run?.recognition?.retryNow());
  addEventListener("beforeunload", (event) => run !== null && event.preventDefault());

  addEventListener("dragenter", (event) => carriesFile(event) && ($("drop").hidden = false));
  addEventListener("dragover", (event) => carriesFile(event) && event.preventDefault());
  addEventListener("dragleave", (event) => event.relatedTarget === null && ($("drop").hidden = true));
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!carriesFile(event)) return;
    event.preventDefault();
    transcribe(event.dataTransfer.files[0]);
  });
}

wireButtons();
wireWindow();
showTheme();
render();
if (!isSecureContext) showNotice(notices.microphoneNotice("SecurityError", location));
