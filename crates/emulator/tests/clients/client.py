"""Uses each operation of the emulator with Microsoft's Python clients, with TLS verification.

The environment has REQUESTS_CA_BUNDLE, HTTPS_PROXY, the settings of one token source, and TENANT and AUDIENCE of an
application for which callers get access tokens.
"""

import os
import ssl

import jwt
import requests
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import (
    ClientAssertionCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)
from azure.keyvault.secrets import SecretClient


TENANT, AUDIENCE = os.environ["TENANT"], os.environ["AUDIENCE"]


def create_credential():
    """Returns the credential, and the proof and the lifetime in its tokens for an application.

    The proof is 1 for a secret and 2 for a certificate or a client assertion. A token of an application lives for an
    hour, that of a managed identity for a day, and both are valid 5 minutes before.
    """
    options = {"disable_instance_discovery": True}
    if "AZURE_FEDERATED_TOKEN_FILE" in os.environ:
        return WorkloadIdentityCredential(**options), ("2", 3_899)
    if "AZURE_CLIENT_ID" not in os.environ:
        return ManagedIdentityCredential(), ("2", 86_700)
    options["authority"] = os.environ["AZURE_AUTHORITY_HOST"]
    application = (os.environ["AZURE_TENANT_ID"], os.environ["AZURE_CLIENT_ID"])
    if "AZURE_CLIENT_SECRET" in os.environ:
        return ClientSecretCredential(*application, os.environ["AZURE_CLIENT_SECRET"], **options), ("1", 3_899)
    return ClientAssertionCredential(*application, github_token, **options), ("2", 3_899)


def github_token():
    address = os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"] + "&audience=api%3A%2F%2FAzureADTokenExchange"
    headers = {"Authorization": f"bearer {os.environ['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    answer = requests.get(address, headers=headers, timeout=10)
    answer.raise_for_status()
    return answer.json()["value"]


def expect_refusal(status, code, call):
    """Fails unless `call` is refused with this status and this code."""
    try:
        call()
    except HttpResponseError as refusal:
        assert isinstance(refusal, ResourceNotFoundError) == (status == 404), refusal
        assert (refusal.status_code, refusal.error.code) == (status, code), refusal
        return
    raise AssertionError(f"{status} {code} was expected")


def check(client):
    first = client.set_secret("db-password", "one", content_type="text/plain", tags={"team": "a"})
    second = client.set_secret("db-password", "two")
    assert first.properties.vault_url == "https://demo.vault.azure.net", first.properties.vault_url

    latest = client.get_secret("db-password")
    assert (latest.value, latest.properties.version) == ("two", second.properties.version)
    earlier = client.get_secret("DB-Password", first.properties.version)
    assert (earlier.name, earlier.value) == ("db-password", "one")
    assert (earlier.properties.content_type, earlier.properties.tags) == ("text/plain", {"team": "a"})
    assert (earlier.properties.recovery_level, earlier.properties.recoverable_days) == ("Recoverable+Purgeable", 90)

    versions = [properties.version for properties in client.list_properties_of_secret_versions("db-password")]
    assert versions == [first.properties.version, second.properties.version], versions
    assert list(client.list_properties_of_secret_versions("absent")) == []

    # 30 secrets are two pages of the default size, or ten pages of three.
    for number in range(29):
        client.set_secret(f"numbered-{number:02}", str(number))
    names = ["db-password"] + [f"numbered-{number:02}" for number in range(29)]
    assert [properties.name for properties in client.list_properties_of_secrets()] == names
    pages = client.list_properties_of_secrets(max_page_size=3).by_page()
    pages = [[properties.name for properties in page] for page in pages]
    assert [len(page) for page in pages] == [3] * 10 + [0], pages
    assert sum(pages, []) == names

    changed = client.update_secret_properties("db-password", content_type="text/html", tags={"team": "b"})
    assert (changed.version, changed.tags) == (second.properties.version, {"team": "b"})
    assert client.get_secret("db-password").properties.content_type == "text/html"

    client.update_secret_properties("db-password", enabled=False)
    expect_refusal(403, "Forbidden", lambda: client.get_secret("db-password"))
    assert client.get_secret("db-password", first.properties.version).value == "one"
    client.update_secret_properties("db-password", enabled=True)

    deleted = client.begin_delete_secret("db-password").result()
    assert (deleted.name, deleted.recovery_id) == (
        "db-password", "https://demo.vault.azure.net/deletedsecrets/db-password",
    )
    expect_refusal(404, "SecretNotFound", lambda: client.get_secret("db-password"))
    expect_refusal(409, "Conflict", lambda: client.set_secret("db-password", "three"))
    assert [secret.name for secret in client.list_deleted_secrets()] == ["db-password"]
    client.begin_recover_deleted_secret("db-password").wait()
    assert client.get_secret("db-password").value == "two"
    backup = client.backup_secret("db-password")
    expect_refusal(409, "Conflict", lambda: client.restore_secret_backup(backup))
    client.begin_delete_secret("db-password").wait()
    client.purge_deleted_secret("db-password")
    expect_refusal(404, "SecretNotFound", lambda: client.get_deleted_secret("db-password"))

    assert client.restore_secret_backup(backup).version == second.properties.version
    assert client.get_secret("db-password", first.properties.version).value == "one"

    expect_refusal(404, "SecretNotFound", lambda: client.get_secret("absent"))
    expect_refusal(400, "BadParameter", lambda: client.get_secret("bad_name"))


def check_audience(credential):
    """The vault refuses an issued token whose audience ends with a slash."""
    token = credential.get_token("https://vault.azure.net//.default").token
    address = "https://demo.vault.azure.net/secrets/absent?api-version=7.4"
    answer = requests.get(address, headers={"Authorization": f"Bearer {token}"}, timeout=10)
    assert answer.status_code == 401 and "AKV10022: Invalid audience." in answer.text, answer.text


def check_caller(credential, expected):
    """PyJWT verifies a token for an application with the JWKS."""
    token = credential.get_token(f"{AUDIENCE}/.default").token
    context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
    address = f"https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys"
    key = jwt.PyJWKClient(address, ssl_context=context, timeout=10).get_signing_key_from_jwt(token)
    wanted = {
        "algorithms": ["RS256"],
        "audience": AUDIENCE,
        "issuer": f"https://sts.windows.net/{TENANT}/",
        "options": {"require": ["aud", "exp", "iat", "iss", "nbf", "sub"]},
    }
    claims = jwt.decode(token, key, **wanted)
    assert (claims["tid"], claims["oid"], claims["ver"]) == (TENANT, claims["sub"], "1.0"), claims
    assert (claims["appidacr"], claims["exp"] - claims["nbf"]) == expected, claims

    signed, signature = token.rsplit(".", 1)
    other = "B" if signature[0] == "A" else "A"
    for refusal, forged, changed in [
        (jwt.InvalidSignatureError, f"{signed}.{other}{signature[1:]}", {}),
        (jwt.InvalidAudienceError, token, {"audience": f"{AUDIENCE}/"}),
        (jwt.InvalidIssuerError, token, {"issuer": f"https://sts.windows.net/{TENANT}"}),
    ]:
        try:
            jwt.decode(forged, key, **{**wanted, **changed})
        except refusal:
            continue
        raise AssertionError(f"{refusal} was expected")


credential, proof = create_credential()
with SecretClient("https://demo.vault.azure.net", credential) as client:
    check(client)
check_audience(credential)
check_caller(credential, proof)
