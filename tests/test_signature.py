"""Signature Version 2: the genuine vector, and botocore's signer as a second opinion."""

from urllib.parse import parse_qsl

import pytest
from botocore.auth import SigV2Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from libcloud_mcs._signature import canonical_host, canonical_query, sign, string_to_sign

# The one vector that is known to be genuine; its secret is the service's own example.
ACCESS_KEY = "4ba303cc17454cc7904e044db2a3c912"
SECRET = "2952f821201341a38978ac4a4a292ce8"
PARAMS = {
    "Timestamp": "2013-07-20T15:28:04.000Z",
    "SignatureVersion": "2",
    "SignatureMethod": "HmacSHA256",
    "AWSAccessKeyId": ACCESS_KEY,
    "Action": "DescribeTemplates",
}
QUERY = (
    f"AWSAccessKeyId={ACCESS_KEY}&Action=DescribeTemplates&SignatureMethod=HmacSHA256"
    "&SignatureVersion=2&Timestamp=2013-07-20T15%3A28%3A04.000Z"
)
TEXT = f"POST\n10.168.44.160:8883\n/\n{QUERY}"

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


def test_genuine_signature_results_stage_by_stage():
    host = canonical_host(scheme="https", host="10.168.44.160", port=8883)
    query = canonical_query(PARAMS)
    text = string_to_sign(method="POST", host=host, path="", query=query)
    assert host == "10.168.44.160:8883"
    assert query == QUERY
    assert text == TEXT
    assert (
        sign(secret=SECRET, text=text, signature_method="HmacSHA256")
        == "EFVL9+vcx6tG9DCp04Ic+itrdCD/uZEhisS9amSSbig="
    )


@pytest.mark.parametrize(
    ("scheme", "host", "port", "expected"),
    [
        ("https", "MOSAPI.Meituan.com", 443, "mosapi.meituan.com"),
        ("https", "mosapi.meituan.com", None, "mosapi.meituan.com"),
        ("http", "example.com", 80, "example.com"),
        ("http", "example.com", 443, "example.com:443"),
        ("https", "example.com", 80, "example.com:80"),
        ("http", "::1", 8883, "[::1]:8883"),
        ("http", "[::1]", 80, "[::1]"),
    ],
)
def test_host_is_lower_case_and_has_unusual_port(scheme, host, port, expected):
    assert canonical_host(scheme=scheme, host=host, port=port) == expected


def test_reserved_bytes_are_escaped():
    assert canonical_query({"k": "a b+~*/&=%\n"}) == "k=a%20b%2B~%2A%2F%26%3D%25%0A"
    assert canonical_query({"名": "中😀"}) == "%E5%90%8D=%E4%B8%AD%F0%9F%98%80"
    assert canonical_query({"k": ""}) == "k="


def test_parameters_are_ordered_by_their_bytes():
    params = dict.fromkeys(["b", "a", "B", "A.10", "A.2", "￿", "😀"], "")
    names = [part.rstrip("=") for part in canonical_query(params).split("&")]
    assert names == ["A.10", "A.2", "B", "a", "b", "%EF%BF%BF", "%F0%9F%98%80"]


@given(st.dictionaries(TEXTS, TEXTS))
def test_canonical_query_is_form_of_the_same_parameters(params):
    assert dict(parse_qsl(canonical_query(params), keep_blank_values=True)) == params


# botocore adds AWSAccessKeyId, SignatureVersion, SignatureMethod and Timestamp by itself, and
# leaves out parameters of the name Signature; it knows HmacSHA256 alone.
OWN = {"AWSAccessKeyId", "SignatureVersion", "SignatureMethod", "Timestamp", "Signature"}


@given(
    params=st.dictionaries(TEXTS.filter(lambda name: name not in OWN), TEXTS, max_size=20),
    method=st.sampled_from(["GET", "POST"]),
    path=st.sampled_from(["/", "/mcs/v1", "/a%20b/~c"]),
    host=st.sampled_from(["mosapi.meituan.com", "127.0.0.1:8883"]),
)
def test_signature_equals_that_of_botocore(params, method, path, host):
    url = f"https://{host}{path}"
    where = {"data": dict(params)} if method == "POST" else {"params": dict(params)}
    request = AWSRequest(method, url, **where)
    request.headers["Host"] = host
    SigV2Auth(Credentials(ACCESS_KEY, SECRET)).add_auth(request)
    theirs = request.data or request.params
    added = {name: theirs[name] for name in OWN - {"Signature"}}

    query = canonical_query(params | added)
    text = string_to_sign(method=method, host=host, path=path, query=query)
    ours = sign(secret=SECRET, text=text, signature_method="HmacSHA256")

    assert ours == theirs["Signature"]


def test_hmac_sha1_signs_with_sha1():
    # RFC 2202, test case 2.
    assert (
        sign(secret="Jefe", text="what do ya want for nothing?", signature_method="HmacSHA1")
        == "7/zfauXrL6LSdBbV8YTfnCWafHk="
    )
