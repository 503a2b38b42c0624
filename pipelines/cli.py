"""Read `curate VERB key=value ...`, call the verb, turn errors into one line and an exit code.

Exit codes: 0 done, 2 a user's error, 3 finished with quarantined shards, 130 interrupted (Ctrl-C),
143 ended (SIGTERM).
Heavy modules are imported inside the verbs: `curate --help` and `curate status` start at once.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from curate.core.errors import ConfigError, CurateError
from pipelines.verbs import models, questions, runs, stores
from pipelines.verbs.answers import EXIT_ENDED, EXIT_INTERRUPTED, EXIT_OK, EXIT_UNREAD, EXIT_USER

HELP = """\
curate VERB [key=value ...]

  run     [pipeline=NAME] [filter_preset=NAME] [stage=A,B | stage=A..B] [out=DIR] [key=value ...]
                                                run what is not done
  plan    the same arguments                    what would run, what is done, and why
  status  out=DIR [watch=SECONDS]               a table: stage, shards, in, kept, dropped, failed;
                                                a run that is going on, with its time left
  show    out=DIR stage=S [key=K] [reason=R] [limit=N]    rows, captions, paths of thumbnails
  show    out=DIR cluster=KEY [limit=N]         a keeper, its duplicates and why; a contact sheet
  show    out=DIR stage=bucket batch=N          how buckets fill batches of N; what cropping cost
  why     KEY out=DIR                           one sample's whole story
  verify  out=DIR [--repair]                    digests of every file; names damaged members
  takedown keys=FILE | urls=FILE | hashes=FILE [out=DIR]   take samples out, here and downstream
  sweep   out=DIR filter.RULE.min=A:B:STEP ...  how many survive each threshold, no recompute
  ledger  out=DIR [all_rules=true]              one parquet: key, stage, rule, score, verdict
  uids    PATH.npy out=DIR [stage=filter]       DataComp's uids of what was kept, sorted u8,u8
  config  [pipeline=NAME] [key=value ...]       the resolved config
  doctor  [models=NAME] [models_folder=DIR]     versions, model packs, free disk, self tests
  golden  models=NAME [overwrite=true]          keep what models give now, so that drift is seen
  index   DIR [models=NAME]                     indexes of a latent store that are missing, or all
                                                of tars of latents from elsewhere
  convert-weights IN OUT [model=ViT-B-32 pretrained=TAG] [image_text=NAME]    weights of others
  fit-captioner input=DIR captioner=FOLDER|PACK out=DIR [source=alt] [template=detailed]
          [key=value ...]                       fine-tune a captioner on pictures with captions

Pipelines: demo (the toy web, end to end), folder (your pictures, input=DIR), base (everything set
by hand). Filter presets: laion5b, laion400m, laion_aesthetics, datacomp_basic, datacomp_clip30,
coyo, sd2; several as A,B. Examples:

  curate run pipeline=demo
  curate run pipeline=demo stage=filter filter.similarity.min=0.3
  curate run filter_preset=datacomp_basic input=metadata.parquet out=DIR
  curate run pipeline=folder input=pictures/ models=offline
  curate sweep out=out/demo filter.similarity.min=0.2:0.4:0.02
"""


def main() -> int:
    """Run the command line; the entry point of the `curate` script."""
    arguments = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    # How far it is, where the dashboard is, whether the similarity means anything on this data.
    for name in ("train", "curate.core.executor", "eval.report_matching"):
        logging.getLogger(name).setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _end)
    debug = "debug=true" in arguments
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left goes there
        return EXIT_UNREAD
    except CurateError as error:
        if debug:
            raise
        print(f"curate: {error}", file=sys.stderr)
        return EXIT_USER
    except _Ended:
        print("curate: ended; run the same line again to go on", file=sys.stderr)
        return EXIT_ENDED
    except KeyboardInterrupt:
        print("curate: interrupted; run the same line again to go on", file=sys.stderr)
        return EXIT_INTERRUPTED


class _Ended(KeyboardInterrupt):
    """Stop as Ctrl-C does, when a batch system sends SIGTERM before it kills."""


def _end(number: int, frame: object) -> NoReturn:
    raise _Ended


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return EXIT_OK if arguments else EXIT_USER
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise ConfigError(
            f"verb: must be one of {', '.join(VERBS)}, got {verb!r}; see `curate --help`"
        )
    return VERBS[verb](rest)


VERBS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "run": runs.run,
    "plan": runs.plan,
    "status": questions.status,
    "show": questions.show,
    "why": questions.why,
    "verify": runs.verify,
    "takedown": runs.takedown,
    "sweep": questions.sweep,
    "ledger": questions.ledger,
    "uids": questions.uids,
    "config": runs.config,
    "doctor": models.doctor,
    "golden": models.golden,
    "index": stores.index,
    "convert-weights": models.convert_weights,
    "fit-captioner": models.fit_captioner,
}

if __name__ == "__main__":
    sys.exit(main())
