"""A client written from the specification alone: it shares nothing with the package."""

import base64
import hashlib
import hmac
import json
from datetime import datetime, timezone
from urllib.parse import quote, urlsplit

import requests
from lxml import etree

#: What the cheapest instance is made of.
CREATE = {
    "ImageId": "d1620e45-c561-42e7-a2a4-53ae0a389bb9",
    "InstanceType": "small",
    "Duration": "1H",
}


class Client:
    """Signs and sends requests, and returns the responses unchanged."""

    def __init__(self, url, access_key, secret, method="POST", answer_format=None, hashed="SHA256"):
        self.url, self.access_key, self.secret = url, access_key, secret
        self.method, self.answer_format, self.hashed = method, answer_format, hashed
        self.session = requests.Session()

    def parameters(self, action, params, **common):
        form = {
            "Action": action,
            "AWSAccessKeyId": self.access_key,
            "Timestamp": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "SignatureVersion": "2",
            "SignatureMethod": f"Hmac{self.hashed}",
        }
        if self.answer_format:
            form["Format"] = self.answer_format
        return form | params | common

    def sign(self, form, method=None, host=None, path=None):
        parts = urlsplit(self.url)
        query = "&".join(f"{quote(name, '')}={quote(form[name], '')}" for name in sorted(form))
        lines = (method or self.method, host or parts.netloc, path or parts.path or "/", query)
        hashed = getattr(hashlib, self.hashed.lower())
        digest = hmac.new(self.secret.encode(), "\n".join(lines).encode(), hashed).digest()
        return base64.b64encode(digest).decode()

    def send(self, form, url=None, **kwargs):
        where = "params" if self.method == "GET" else "data"
        return self.session.request(self.method, url or self.url, **{where: form}, **kwargs)

    def __call__(self, action, **params):
        """Send the request of an action and return the response."""
        form = self.parameters(action, {name.replace("_", "."): v for name, v in params.items()})
        return self.send(form | {"Signature": self.sign(form)})

    def tree(self, action, **params):
        """Send a request that must succeed, and return the content of the response."""
        response = self(action, **params)
        assert response.status_code == 200, response.text
        root, content = parse(response)
        assert root == f"{action}Response"
        return content

    def refused(self, action, **params):
        """Send a request that must be refused, and return code and message."""
        return refusal(self(action, **params))


def parse(response):
    if response.headers["Content-Type"] == "application/json":
        ((root, content),) = json.loads(response.content.decode("utf-8")).items()
        return root, content
    assert response.headers["Content-Type"] == "application/xml"
    root = etree.fromstring(response.content)
    return root.tag, element_tree(root)


def element_tree(element):
    if not len(element):
        return element.text or ""
    tree = {}
    for child in element.iterchildren("*"):
        tree.setdefault(child.tag, []).append(element_tree(child))
    return {name: values[0] if len(values) == 1 else values for name, values in tree.items()}


def texts(tree):
    """Return a JSON response in the form of XML: all scalars text, sets of one not in a list."""
    if isinstance(tree, dict):
        return {name: texts(value) for name, value in tree.items()}
    if isinstance(tree, list):
        return texts(tree[0]) if len(tree) == 1 else [texts(item) for item in tree]
    return str(tree)


def refusal(response):
    root, content = parse(response)
    assert root == "ErrorResponse"
    error = content["Error"]
    assert set(error) == {"message", "code"}
    assert int(error["code"]) == response.status_code
    return response.status_code, error["message"]
