"""Where a node's key is kept, behind one small interface (docs/host-keys.md says what each storage protects against).

interface.py            KeyStorage: read, write, remove a key in one of two places
secret_file.py          reading and writing files that only their owner may read
plain_file.py           `file`: base64 in a file with mode 0600
sealed_file.py          `sealed`: the same, encrypted under a passphrase
os_keyring.py           `keyring`: the operating system's keyring
systemd_credential.py   `systemd`: a credential that systemd hands to the service; read only
passphrase.py           where the passphrase of a sealed key comes from
choice.py               from the choice in `node.json` to the storage
"""
