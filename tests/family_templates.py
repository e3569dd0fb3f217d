"""The chat templates of the family in Jinja, as their repositories have them.

Rebuilt from what others say of those files, which are not here: GLM-Edge's is that of llama.cpp's test of chat
templates, GLM-4-0414's has ms-swift's tools (GLM4_0414AgentTemplate), GLM-Z1's drops thoughts as its template does.
"""

# ruff: noqa: E501

from __future__ import annotations

EDGE = (
    "{% for item in messages %}<|{{ item['role'] }}|>\n{{ item['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SYSTEM = "{% for msg in messages if msg.role == 'system' %}<|system|>\n{{ msg.content }}{% endfor %}"
TOOL = (
    "{% set f = tool.function if tool.get('function') else tool %}{{ '## ' + f.name + '\n\n' }}"
    "{{ f | tojson(indent=4, ensure_ascii=False) }}{{ '\n在调用上述函数时，请使用 Json 格式表示调用的参数。' }}"
    "{% if not loop.last %}{{ '\n' }}{% endif %}"
)
TALK = (
    "{% for message in messages if message.role != 'system' %}<|{{ message.role }}|>{{ message.get('metadata', '') }}"
    "{{ '\n' }}{{ VISIBLE }}{% endfor %}"
)
GLM4_0414 = (
    "[gMASK]<sop>{% if tools %}<|system|>{{ '\n# 可用工具\n\n' }}{% for tool in tools %}" + TOOL + "{% endfor %}{% endif %}"
    + SYSTEM + TALK.replace("VISIBLE", "message.content")
    + "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)  # fmt: skip
Z1 = (
    "[gMASK]<sop>{% if tools %}<|system|>{{ '\n你是一个名为 ChatGLM 的人工智能助手。你是基于智谱 AI 公司训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n' }}{% for tool in tools %}" + TOOL + "{% endfor %}{% endif %}"
    + SYSTEM + TALK.replace("VISIBLE", "message.content.split('</think>')[-1].strip()")
    + "{% if add_generation_prompt %}<|assistant|>{{ '\n<think>' }}{% endif %}"
)  # fmt: skip
TEMPLATES = {"glm-edge": EDGE, "glm4-0414": GLM4_0414, "glm-z1": Z1}
