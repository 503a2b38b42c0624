"""Describe what was fitted: a model card for people, with the same facts as `fit.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_CARD = """---
library_name: {library}
base_model: {base}
pipeline_tag: image-text-to-text
---

# {title}

{what} by `curate fit-captioner` of latentmill on {num_learnt:,} samples.

| what | value |
| --- | --- |
| base | `{base}`, {model_type} |
| weights of the base, sha256 | `{model_digest}` |
| processor of the base, sha256 | `{processor_digest}` |
| samples, sha256 over keys, texts and pictures | `{data}` |
| captions of source | `{source}` |
| held out, never learnt from | {num_heldout:,} samples were captioned |
| trained parameters | {num_trained:,} of {num_params:,} |

Asked with the template `{template}` (digest `{template_digest}`):

> {instruction}

Use it in a pack file, `models=PACK.yaml`:

```yaml
base: toy
captioner: {{kind: vlm, paths: [{path}]}}
```

## Config

```json
{config}
```
"""


def write_card(facts: Mapping[str, Any], *, is_adapter: bool) -> str:
    """Write the card of the merged model or of the adapter.

    Args:
        facts: as `fit.json` has them, without what was measured.
        is_adapter: of peft's format; it needs the base beside it.
    """
    base, template = facts["base"], facts["template"]
    method = facts["config"]["method"]
    name = str(base["model"]).rpartition("/")[2]
    return _CARD.format(
        library="peft" if is_adapter else "transformers",
        base=name,
        title=f"{name}, fitted to captions" + (" (adapter)" if is_adapter else ""),
        what="Fitted with LoRA, merged in," if method == "lora" else "Fitted with full weights",
        num_learnt=facts["num_learnt"],
        model_type=base["model_type"],
        model_digest=base["model_digest"],
        processor_digest=base["processor_digest"],
        data=facts["data"],
        source=facts["config"]["source"],
        num_heldout=facts["num_heldout"],
        num_trained=facts["num_trained"],
        num_params=facts["num_params"],
        template=template["name"],
        template_digest=template["digest"],
        instruction=template["text"],
        path="model" if not is_adapter else "../model",
        config=json.dumps(facts["config"], indent=2, sort_keys=True),
    )
