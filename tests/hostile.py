"""Results of a run whose every string is an attack on what is made of them."""

PAYLOADS = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)> ' onmouseover='alert(1)",
    "javascript:alert(1)//",
    "//evil.example/x",
    "{{ 7*7 }}{% include 'page.css' %}",
    "$\\frac{x}$ ]]>--><!-- </style></svg></template>",
    "| x | `code` [link](javascript:x) <b>\n# new\x1b[31m\x00\u202e\ud800",
    "../" * 3 + "etc/passwd",
)
# Keys whose values choose a form of presentation. They are attacked too, one at a time, in a test of their own.
CHOICES = ("verdict", "kind", "method", "presentation", "units_file")


def attacked(value, payload, key=None):
    """A copy of results.json with every string replaced, and the free keys of its dictionaries too."""
    if isinstance(value, str):
        return value if key in CHOICES else payload
    if isinstance(value, list):
        return [attacked(item, payload, key) for item in value]
    if isinstance(value, dict):
        free = key in ("options", "packages")
        return {payload + name if free else name: attacked(item, payload, name) for name, item in value.items()}
    return value
