#!/bin/sh
# Makes demo.wav, the project's own recording: two sentences by the free synthesizer flite, 16 kHz mono.
set -e
cd "$(dirname "$0")"
flite -voice slt -t "This is a small test of the streaming recognizer. It hears a few words at a time, and it writes them down while you are still speaking." -o demo.wav
