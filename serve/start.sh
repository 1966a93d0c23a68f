#!/bin/sh
# What the container runs: pulls the model into the volume when it is not there, then serves.
#   start.sh engine MODEL [OPTION …]   our server with TGI's and OpenAI's routes
#   start.sh app                       the chat page; CHATKIT_AUTH says how people sign in
set -eu

what=$1
shift
case "$what" in
engine)
    model=$1
    shift
    case "$model" in
    tgi:* | openai:* | pool:* | scripted:*) ;;
    *) python -m chatkit pull "$model" ;;
    esac
    exec python -m serve engine --model "$model" --host 0.0.0.0 --port 8080 "$@"
    ;;
app)
    python -m chatkit db upgrade
    python -m chatkit pull "${CHATKIT_APP_MODEL:-smollm2-135m}"
    exec python -m serve app --host 0.0.0.0 --port 8080 --metrics \
        --origin "${CHATKIT_APP_ORIGIN:-localhost:5006}"
    ;;
*)
    echo "error: there is no $what to run; use engine or app." >&2
    exit 2
    ;;
esac
