"""A real llama.cpp server on one GGUF, with as little configuration as a gateway's test needs.

python tests/llamacpp_engine.py MODEL.gguf PORT NAME[,NAME…]
"""

from __future__ import annotations

import signal
import sys

import xllamacpp

# Knows tools, which the embedded model's own template does not. Shown two calls and their results,
# even the untrained model makes the third call in this form.
TEMPLATE = """\
{%- if tools %}<|im_start|>system
You may call functions: <tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>
Call one as <tool_call>{"name": <name>, "arguments": <arguments>}</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
Result: {{ message.content }}<|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content or "" }}
{%- for call in message.tool_calls or [] -%}
<tool_call>{"name": "{{ call.function.name }}", \
"arguments": {{ call.function.arguments | tojson }}}</tool_call>
{%- endfor %}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def main() -> None:
    """Serve until a signal ends the process."""
    model, port, names = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path = model
    params.model_alias = set(names.split(","))
    params.port = int(port)
    params.n_ctx = 2048
    params.n_parallel = 1
    params.cpuparams.n_threads = 1
    params.use_jinja = True
    params.chat_template = TEMPLATE
    params.sampling.temp = 0.0
    server = xllamacpp.Server(params)
    while server:
        signal.pause()


if __name__ == "__main__":
    main()
