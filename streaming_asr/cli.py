"""Owns the command line ``streaming-asr``: arguments in, calls out. Imports of anything heavy wait until needed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import shtab

from . import __version__, settings
from .errors import StreamingAsrError
from .limits import Limits
from .logs import LEVELS
from .server_options import ServerOptions

if TYPE_CHECKING:
    from rich.progress import Progress

    from .messages import Final
    from .recognizer import Recognizer

EXIT_OK, EXIT_FAILED, EXIT_USAGE = 0, 1, 2


def _count(text: str) -> int:
    """Of an option: a whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text}")
    return int(text)


def _json_object(text: str) -> dict[str, object]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def _parser() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser, and that of ``serve``."""
    parser = argparse.ArgumentParser(prog="streaming-asr", description="Streaming speech recognition.")
    parser.add_argument("--version", action="version", version=f"streaming-asr {__version__}")
    shtab.add_argument_to(parser, "--print-completion", help="print the shell's completion of this command, and end")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def model_option(command: argparse.ArgumentParser) -> None:
        command.add_argument("--model", type=Path, metavar="DIR", help="model folder (default: the one that ships)")
        command.add_argument(
            "--precision", choices=("float32", "int8"), help="of the network (default: what suits the device)"
        )
        command.add_argument(
            "--device", choices=("cpu", "cuda"), default="cpu", help="of the network (default: %(default)s)"
        )

    serve = commands.add_parser("serve", help="serve clients")
    settings.add_options(serve)
    settings.add_fields(serve, ServerOptions)
    settings.add_fields(serve.add_argument_group("limits of one client"), Limits)
    serve.add_argument(
        "--log-level",
        choices=LEVELS,
        default="warning",
        help="info: sessions as they come and go; debug: every message's kind and size (default: %(default)s)",
    )
    serve.add_argument("--log-format", choices=("text", "json"), default="text", help="(default: %(default)s)")
    serve.add_argument("--verbose", dest="log_level", action="store_const", const="info", help="--log-level info")
    model_option(serve)

    keys = commands.add_parser("keys", help="add, list and revoke the API keys of a server")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make a key and print it, this once; the file keeps its hash")
    add.add_argument("name", metavar="NAME", help="whose it is, or what for")
    add.add_argument("--max-sessions", type=int, metavar="N", help="at once (default: no limit)")
    add.add_argument(
        "--audio-seconds-per-hour", type=float, metavar="S", help="a budget that fills up steadily (default: no limit)"
    )
    listing = actions.add_parser("list", help="names, dates and limits")
    revoke = actions.add_parser("revoke", help="a running server ends its sessions within seconds")
    revoke.add_argument("name", metavar="NAME")
    for action in (add, listing, revoke):
        action.add_argument("--keys", type=Path, required=True, metavar="FILE", help="the file that serve --keys reads")

    transcribe = commands.add_parser("transcribe", help="transcribe files")
    transcribe.add_argument("files", nargs="+", type=Path, metavar="FILE")
    transcribe.add_argument("--format", choices=("text", "json", "srt", "vtt"), default="text")
    transcribe.add_argument("--raw", action="store_true", help="words as they were said: no marks, capitals or figures")
    model_option(transcribe)

    evaluate = commands.add_parser("evaluate", help="word error rate over a LibriSpeech-style folder")
    evaluate.add_argument("folder", type=Path, metavar="DIR")
    evaluate.add_argument("--limit", type=_count, metavar="N", help="only the first N recordings")
    evaluate.add_argument("--json", action="store_true", help="one JSON object")
    model_option(evaluate)

    # Its options are its own: `main` hands them on before they are looked at here.
    commands.add_parser("bench", help="measure latency and speed; needs a checkout", add_help=False)

    train = commands.add_parser("train", help="train an acoustic model on LibriSpeech-style folders")
    train.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of *.flac beside *.trans.txt")
    train.add_argument(
        "--lexicon", type=Path, required=True, metavar="FILE", help="word<TAB>PH PH PH lines (see build-lm)"
    )
    train.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="checkpoint, log and model go here; resumed when present",
    )
    train.add_argument("--dev", type=Path, metavar="DIR", help="held-out folder, read after each epoch")
    train.add_argument("--config", type=Path, metavar="FILE", help="JSON with fields of TrainConfig")
    train.add_argument(
        "--init", type=Path, metavar="DIR", help="a model to start from, which also says how each word was pronounced"
    )
    train.add_argument("--max-hours", type=float, metavar="H", help="stop (resumable) after so much wall-clock time")

    build_lm = commands.add_parser("build-lm", help="build vocabulary, lexicon and n-gram LM from text")
    build_lm.add_argument("texts", nargs="+", type=Path, metavar="FILE", help="plain text, any case and punctuation")
    build_lm.add_argument(
        "--pronunciations", type=Path, required=True, metavar="FILE", help="dictionary in CMUdict's format"
    )
    build_lm.add_argument("--output", type=Path, required=True, metavar="DIR")
    build_lm.add_argument("--order", type=_count, default=3, metavar="N", help="of the longest n-grams (default: 3)")
    build_lm.add_argument("--max-words", type=_count, default=200_000, metavar="N", help="default: %(default)s")
    build_lm.add_argument(
        "--max-bytes", type=_count, default=30_000_000, metavar="N", help="of the n-grams (default: %(default)s)"
    )

    neural_lm = commands.add_parser("train-neural-lm", help="train the language model that scores words again")
    neural_lm.add_argument("texts", nargs="+", type=Path, metavar="FILE", help="plain text, any case and punctuation")
    neural_lm.add_argument(
        "--lexicon",
        type=Path,
        required=True,
        metavar="FILE",
        help="lexicon.txt that build-lm wrote",
    )
    neural_lm.add_argument(
        "--dev", nargs="+", type=Path, required=True, metavar="FILE", help="held-out text, for perplexity"
    )
    neural_lm.add_argument("--config", type=Path, metavar="FILE", help="JSON with fields of NeuralLMConfig")
    neural_lm.add_argument(
        "--init", type=Path, metavar="FILE", help="neural_lm.safetensors to go on from, for the same lexicon"
    )
    neural_lm.add_argument("--output", type=Path, required=True, metavar="FILE")

    punctuation = commands.add_parser("train-punctuation", help="train the marks and capitals of finals on prose")
    punctuation.add_argument(
        "texts", nargs="+", type=Path, metavar="FILE", help="plain text, paragraphs apart by blank lines"
    )
    punctuation.add_argument(
        "--dev", nargs="+", type=Path, required=True, metavar="FILE", help="held-out text, to be scored on"
    )
    punctuation.add_argument("--max-words", type=_count, default=8_000_000, metavar="N", help="default: %(default)s")
    punctuation.add_argument("--init", type=Path, metavar="FILE", help="punctuation.safetensors to start from")
    punctuation.add_argument("--output", type=Path, required=True, metavar="FILE")

    speech = commands.add_parser("train-speech-network", help="train what tells music and noises from speech")
    speech.add_argument("speech", type=Path, metavar="SPEECH_DIR", help="folder of *.flac beside *.trans.txt")
    speech.add_argument("other", type=Path, metavar="OTHER_DIR", help="folder of audio without speech")
    speech.add_argument("--hours", type=float, default=7.0, metavar="H", help="of made-up streams (default: 7)")
    speech.add_argument("--steps", type=_count, default=1200, metavar="N", help="default: %(default)s")
    speech.add_argument("--seed", type=_count, default=1, metavar="N", help="default: %(default)s")
    speech.add_argument("--output", type=Path, required=True, metavar="FILE")

    export = commands.add_parser("export-model", help="join weights, lexicon and LM into a model folder that serves")
    export.add_argument(
        "--acoustic", type=Path, required=True, metavar="DIR", help="the model/ folder that train wrote"
    )
    export.add_argument("--lexicon", type=Path, required=True, metavar="FILE")
    export.add_argument("--lm", type=Path, required=True, metavar="FILE", help="lm.safetensors that build-lm wrote")
    export.add_argument(
        "--punctuation", type=Path, metavar="FILE", help="punctuation.safetensors that train-punctuation wrote"
    )
    export.add_argument(
        "--neural-lm", type=Path, metavar="FILE", help="neural_lm.safetensors that train-neural-lm wrote"
    )
    export.add_argument(
        "--speech", type=Path, metavar="FILE", help="speech.safetensors that train-speech-network wrote"
    )
    export.add_argument("--g2p", type=Path, metavar="FILE", help="g2p.safetensors that build-lm wrote")
    export.add_argument("--name", required=True)
    export.add_argument(
        "--decoder",
        type=_json_object,
        default={},
        metavar="JSON",
        help="decoder options, e.g. '{\"lm_weight\": 2.0}'",
    )
    export.add_argument(
        "--phases",
        type=_count,
        metavar="N",
        help="how often the network reads each stream, each time 30 ms later in its steps; the readings are averaged "
        "(default: once for each output frame of a step; 1 halves the network's work)",
    )
    export.add_argument("--output", type=Path, required=True, metavar="DIR")
    return parser, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code (0 done, 1 failed, 2 unusable input)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments[:1]) == ["bench"]:
        return _bench(arguments[1:])
    parser, serve = _parser()
    options = parser.parse_args(arguments)
    command = {
        "serve": _serve,
        "keys": _keys,
        "transcribe": _transcribe,
        "evaluate": _evaluate,
        "train": _train,
        "build-lm": _build_lm,
        "train-neural-lm": _train_neural_lm,
        "train-punctuation": _train_punctuation,
        "train-speech-network": _train_speech_network,
        "export-model": _export_model,
    }[options.command]
    try:
        if options.command == "serve":
            options = settings.parse(parser, serve, arguments, os.environ)
            if options.print_config:
                print(settings.to_toml(serve, options), end="")
                return EXIT_OK
        return command(options)
    except StreamingAsrError as error:
        print(f"streaming-asr {options.command}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # the reader of our output went away: nothing left to do, and nobody to tell
        sys.stderr.close()
        return EXIT_FAILED
    except OSError as error:  # of what is written to: what is read has its own errors
        about = f": {error.filename}" if error.filename else ""
        print(f"streaming-asr {options.command}: {error.strerror or error}{about}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return 130


def _bench(arguments: Sequence[str]) -> int:
    import importlib

    checkout = Path(__file__).resolve().parent.parent
    if not (checkout / "benchmarks" / "__main__.py").is_file():
        print("streaming-asr bench: runs from a checkout only; what it measures with is not installed", file=sys.stderr)
        return EXIT_USAGE
    sys.path.insert(0, str(checkout))
    try:
        return int(importlib.import_module("benchmarks.__main__").main(arguments))
    except KeyboardInterrupt:
        return 130


def _load(options: argparse.Namespace) -> Recognizer:
    from .manifest import SHIPPED_MODEL
    from .search_graph import read_graph

    folder = options.model or SHIPPED_MODEL
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(read_graph, folder)
        import torch  # takes as long

        from .recognizer import Recognizer

        torch.set_num_threads(1)  # more would spin while the search, and a server's sockets, need the processors
        return Recognizer.load(folder, precision=options.precision, device=options.device, graph=reading.result())


def _serve(options: argparse.Namespace) -> int:
    from .first_start import compile_apart
    from .manifest import SHIPPED_MODEL
    from .server import run_server

    limits = settings.read_fields(options, Limits)
    server_options = settings.read_fields(options, ServerOptions, limits=limits)
    compile_apart(options.model or SHIPPED_MODEL, options.device, options.precision)
    return run_server(
        lambda: _load(options), server_options, log_level=options.log_level, log_format=options.log_format
    )


def _keys(options: argparse.Namespace) -> int:
    from .keys import add_key, read_keys, revoke_key

    match options.action:
        case "add":
            print(add_key(options.keys, options.name, options.max_sessions, options.audio_seconds_per_hour))
            print("this is the only time that the key is shown", file=sys.stderr)
        case "revoke":
            revoke_key(options.keys, options.name)
        case "list":
            for key in read_keys(options.keys).values():
                sessions = f"{key.max_sessions} sessions" if key.max_sessions else "any sessions"
                hour = key.audio_seconds_per_hour
                audio = f"{hour:.12g} s of audio an hour" if hour else "any audio"
                print(f"{key.name}\t{key.created}\t{sessions}\t{audio}")
    return EXIT_OK


def _transcribe(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from .errors import InputError

    if len(options.files) > 1 and options.format in ("srt", "vtt"):
        raise InputError(f"subtitles are of one recording: with --format {options.format} name one file at a time")
    recognizer = _load(options)
    exit_code = EXIT_OK
    console = Console(stderr=True)
    for path in options.files:
        began = time.perf_counter()
        try:
            with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
                finals, audio_seconds = _transcribe_file(recognizer, path, progress, formatted=not options.raw)
        except InputError as error:
            print(f"streaming-asr transcribe: {error}", file=sys.stderr)
            exit_code = EXIT_USAGE
            continue
        compute_seconds = time.perf_counter() - began
        print(_transcript(options.format, path, finals, audio_seconds, compute_seconds), end="", flush=True)
    return exit_code


def _transcribe_file(
    recognizer: Recognizer, path: Path, progress: Progress, *, formatted: bool
) -> tuple[list[Final], float]:
    from .messages import Final, StreamOptions
    from .recordings import duration_seconds, read_blocks

    task = progress.add_task(path.name, total=duration_seconds(path))
    stream = recognizer.stream(StreamOptions(formatted=formatted))
    finals: list[Final] = []
    num_samples = 0
    for block in read_blocks(path):
        num_samples += len(block)
        finals += [event for event in stream.accept(block) if isinstance(event, Final)]
        progress.update(task, completed=num_samples / 16000)
    finals += [event for event in stream.finish() if isinstance(event, Final)]
    return [final for final in finals if final.text], num_samples / 16000


def _transcript(form: str, path: Path, finals: list[Final], audio_seconds: float, compute_seconds: float) -> str:
    import msgspec

    from .subtitles import srt, vtt

    if form == "srt":
        return srt(finals)
    if form == "vtt":
        return vtt(finals)
    if form == "text":
        return "".join(f"{final.formatted or final.text}\n" for final in finals)
    utterances = [
        {
            "text": final.text,
            **({"formatted": final.formatted} if final.formatted else {}),
            "start": final.start,
            "end": final.end,
            "words": msgspec.to_builtins(final.words),
        }
        for final in finals
    ]
    row = {
        "file": str(path),
        "text": " ".join(final.text for final in finals),
        "utterances": utterances,
        "audio_seconds": round(audio_seconds, 3),
        "compute_seconds": round(compute_seconds, 3),
    }
    return json.dumps(row) + "\n"


def _evaluate(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import track

    from .evaluate import count_word_errors, stream_recordings
    from .recordings import find_recordings

    recordings = find_recordings([options.folder])[: options.limit]
    recognizer = _load(options)
    console = Console(stderr=True)
    stream = stream_recordings(recognizer, recordings)
    results = list(
        track(
            stream,
            "evaluating",
            total=len(recordings),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    )
    errors = count_word_errors((" ".join(r.recording.words), r.text) for r in results)
    audio = sum(result.audio_seconds for result in results)
    compute = sum(result.compute_seconds for result in results)
    slowest = sorted(results, key=lambda r: r.compute_seconds / max(r.audio_seconds, 1e-3), reverse=True)[:5]
    row = {
        "wer": round(errors.wer, 5),
        "words": errors.words,
        "insertions": errors.insertions,
        "deletions": errors.deletions,
        "substitutions": errors.substitutions,
        "rtf": round(compute / max(audio, 1e-3), 5),
        "recordings": len(results),
        "audio_seconds": round(audio, 2),
        "model": recognizer.name,
        "slowest": [
            {
                "utterance": r.recording.utterance,
                "rtf": round(r.compute_seconds / max(r.audio_seconds, 1e-3), 4),
            }
            for r in slowest
        ],
    }
    if options.json:
        print(json.dumps(row))
        return EXIT_OK
    print(
        f"WER {100 * errors.wer:.2f} % over {errors.words} words in {len(results)} recordings ({audio / 60:.1f} min): "
        f"{errors.substitutions} substituted, {errors.deletions} deleted, {errors.insertions} inserted"
    )
    print(f"real-time factor {row['rtf']:.4f} on this machine; slowest utterances:")
    for item in slowest:
        print(f"  {item.recording.utterance}: {item.compute_seconds / max(item.audio_seconds, 1e-3):.4f}")
    return EXIT_OK


def _train(options: argparse.Namespace) -> int:
    import logging

    from .training.train import train

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train(
        options.folders,
        options.lexicon,
        options.output,
        dev=options.dev,
        config=options.config,
        init=options.init,
        max_hours=options.max_hours,
    )
    return EXIT_OK


def _build_lm(options: argparse.Namespace) -> int:
    from .training.lm import build_lm

    build_lm(
        options.texts,
        options.pronunciations,
        options.output,
        order=options.order,
        max_words=options.max_words,
        max_bytes=options.max_bytes,
    )
    return EXIT_OK


def _train_neural_lm(options: argparse.Namespace) -> int:
    import logging

    from .training.neural_lm import train_neural_lm

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_neural_lm(
        options.texts, options.lexicon, options.dev, options.output, config=options.config, init=options.init
    )
    return EXIT_OK


def _train_punctuation(options: argparse.Namespace) -> int:
    import logging

    from .training.punctuation import train_punctuation

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_punctuation(options.texts, options.dev, options.output, max_words=options.max_words, init=options.init)
    return EXIT_OK


def _train_speech_network(options: argparse.Namespace) -> int:
    import logging

    from .training.speech_network import train_speech_network

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    train_speech_network(
        options.speech, options.other, options.output, hours=options.hours, steps=options.steps, seed=options.seed
    )
    return EXIT_OK


def _export_model(options: argparse.Namespace) -> int:
    from .training.export import export_model

    export_model(
        options.acoustic,
        options.lexicon,
        options.lm,
        options.output,
        name=options.name,
        punctuation=options.punctuation,
        g2p=options.g2p,
        neural_lm=options.neural_lm,
        speech=options.speech,
        decoder=options.decoder,
        phases=options.phases,
    )
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
