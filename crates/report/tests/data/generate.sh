#!/bin/sh
# Regenerates the sample reports in this directory with the real garak.
#
#   PYTHON=<venv with garak 0.17.1>/bin/python ./generate.sh
#
# plain.*   one garak run of four probes: hits, passes, ten detectors on one
#           probe, and payload_init lines before a probe and in the midst of it
# part-N.*  one garak run of each of the four, with the same seed; without the
#           digest line, which a part does not need
# nones.*   a target that never answers: every output is null
#
# garak's own test generators answer the same thing each time; paths are
# replaced, times and ids differ from run to run.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-"$here/../../../../.tools/garak/bin/python"}
packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT INT TERM
export XDG_DATA_HOME="$scratch/data" XDG_CONFIG_HOME="$scratch/config" XDG_CACHE_HOME="$scratch/cache"
export HF_HUB_OFFLINE=1 PYTHONHASHSEED=0

run() { # run PREFIX TARGET GENERATIONS PROBES
    "$python" -m garak --target_type "$2" --spec "$4" --generations "$3" --seed 7 \
        --report_prefix "$1" >"$scratch/$1.log" 2>&1
    for kind in report hitlog; do
        made="$scratch/data/garak/garak_runs/$1.$kind.jsonl"
        [ -e "$made" ] || continue
        sed "s#$scratch#/scratch#g; s#$packages#/python#g" "$made" >"$here/$1.$kind.jsonl"
    done
}

run plain test.Repeat 1 probes.exploitation.SQLInjectionEcho,probes.lmrc.Profanity,probes.lmrc.QuackMedicine,probes.web_injection.MarkdownXSS
run part-1 test.Repeat 1 probes.exploitation.SQLInjectionEcho
run part-2 test.Repeat 1 probes.lmrc.Profanity
run part-3 test.Repeat 1 probes.lmrc.QuackMedicine
run part-4 test.Repeat 1 probes.web_injection.MarkdownXSS
run nones test.Nones 2 probes.lmrc.QuackMedicine
rm "$here/plain.hitlog.jsonl" # the parts' hitlogs have the same lines
for part in 1 2 3 4; do
    sed '/^{"entry_type": "digest"/d' "$here/part-$part.report.jsonl" >"$scratch/part"
    cp "$scratch/part" "$here/part-$part.report.jsonl"
done
