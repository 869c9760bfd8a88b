"""Ways to write the address of what is inside, each of which has got past somebody's check before.

`{port}` stands for the port of the trap (`trap.py`), which listens on every address of this machine.
"""

from __future__ import annotations

from msgcore.security.egress import MAX_URL

NAMES = {
    "inside.example": ["127.0.0.1"],
    "inside6.example": ["::1"],
    "mapped.example": ["::ffff:127.0.0.1"],
    "translated.example": ["64:ff9b::7f00:1"],
    "isatap.example": ["2001:470:1f0b::5efe:127.0.0.1"],
    "many.example": ["10.0.0.1", "127.0.0.1", "::1"],
    "alias.of.alias.example": ["127.0.0.1"],  # CNAMEs: what the chain ends with is all that the resolver tells
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "xn--bcher-kva.example": ["127.0.0.1"],
    "localhost": ["127.0.0.1", "::1"],
    "app.localhost": ["127.0.0.1"],
    "localhost.localdomain": ["127.0.0.1"],
    "ip6-localhost": ["::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "metadata": ["169.254.169.254"],
    "instance-data.ec2.internal": ["169.254.169.254"],
    "zone.example": ["fe80::1%lo"],
    "nothing.example": [],
    "text.example": ["localhost"],
}
"""What the test's resolver knows, by the name in ASCII and lower case."""

HOSTS = [
    # IPv4, as the C library reads it: decimal, octal, hexadecimal, short, and mixtures of them
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "0X7F.1",
    "0177.0.0.1", "0177.0.0.0x1", "017700000001", "00000177.0.0.1", "0177.1", "127.0.0.01", "127.00.0.1", "127.0x1",
    "0", "0.0.0.0", "0x0", "0x00000000", "00.0", "0.1", "4294967295", "127.0.0.1.", "127.0.0.1..", "127.1.", "0.",
    # other networks that are not the internet
    "10.0.0.1", "10.1", "167772161", "172.16.0.1", "172.31.255.254", "192.168.0.1", "3232235521", "100.64.0.1",
    "169.254.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1",
    "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    # IPv6, and IPv4 inside of it
    "[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::2]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[::FFFF:7F00:0001]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::ffff:0:127.0.0.1]", "[::ffff:0.0.0.0]",
    "[::ffff:169.254.169.254]", "[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[2002:7f00:1::1]", "[2002:a9fe:a9fe::]", "[2001:0:7f00:1::1]",
    "[2001::1]", "[2001:470:1f0b::5efe:127.0.0.1]", "[2001:470:1f0b::200:5efe:10.0.0.1]", "[fe80::5efe:127.0.0.1]",
    "[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]", "[::1%25lo]", "[::1%lo]", "[fec0::1]", "[fc00::1]", "[fd00:ec2::254]",
    "[fd20:ce::254]", "[ff02::1]", "[ff0e::1]", "[100::1]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]", "[v1.127.0.0.1]",
    # other digits, dots and letters that become ASCII
    "１２７.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127．0．0．1", "127｡0｡0｡1", "１２７。０。０。１", "٠x7f.1", "१२७.0.0.1",
    "ｌｏｃａｌｈｏｓｔ", "localhoﬆ", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "LOCALHOST", "localhost\u00ad", "local\u200dhost", "bücher.example",
    "xn--bcher-kva.example", "[::ｆｆｆｆ:127.0.0.1]",
    # names
    "localhost", "localhost.", "localhost..", ".localhost", "app.localhost", "localhost.localdomain", "ip6-localhost",
    "inside.example", "INSIDE.example.", "inside6.example", "mapped.example", "translated.example", "isatap.example",
    "many.example", "alias.of.alias.example", "127.0.0.1.nip.example", "metadata.google.internal", "metadata",
    "metadata.google.internal.", "instance-data.ec2.internal", "zone.example", "nothing.example", "text.example",
    # what is taken apart in more than one way
    "127.0.0.1%20", "127.0.0.1%00", "127.0.0.1%2f", "127.0.0.1%3A22", "%31%32%37.0.0.1", "127%2e0%2e0%2e1", "%6c%6fcalhost",
    "localhost%00.example.com", "127.0.0.1%0d%0a", "127.0.0.1%23", "127.0.0.1%40", "%5b::1%5d", "%00127.0.0.1",
    "a" * 64 + ".example", "..", ".", "-", "_", "*", "a..b", "[", "]", "[]", "[::1", "::1", "::1]", "[[::1]]", "[127.0.0.1]",
    "127.0.0.1,127.0.0.1", "127.0.0.1;", "(127.0.0.1)", "<localhost>", "{localhost}", "$localhost", "`localhost`", "~",
]  # fmt: skip

URLS = [
    # schemes, however they are written
    "HTTP://127.0.0.1:{port}/", "hTtP://localhost:{port}/", "http:127.0.0.1:{port}/", "http:/127.0.0.1:{port}/",
    "http:///127.0.0.1:{port}/", "http:////127.0.0.1:{port}/", "//127.0.0.1:{port}/", "127.0.0.1:{port}", "/etc/passwd",
    "file:///etc/passwd", "file://localhost/etc/passwd", "unix:///var/run/docker.sock",
    "http+unix://%2fvar%2frun%2fdocker.sock/", "gopher://127.0.0.1:{port}/_x", "dict://127.0.0.1:{port}/x",
    "ftp://127.0.0.1:{port}/", "tftp://127.0.0.1:{port}/", "sftp://127.0.0.1:{port}/", "ldap://127.0.0.1:{port}/",
    "smb://127.0.0.1:{port}/", "netdoc:///etc/passwd", "data:text/plain,x", "javascript:alert(1)",
    "jar:http://127.0.0.1:{port}!/x", "view-source:http://127.0.0.1:{port}/", "url:http://127.0.0.1:{port}/",
    "https+http://127.0.0.1:{port}/", "\x00http://127.0.0.1:{port}/", " http://127.0.0.1:{port}/",
    "http\t://127.0.0.1:{port}/", "ht\ntp://127.0.0.1:{port}/", "\x1fhttp://127.0.0.1:{port}/",
    # who is before the @, and where the host ends
    "http://example.com@127.0.0.1:{port}/", "http://example.com:80@127.0.0.1:{port}/", "http://a@b@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}@example.invalid/", "http://127.0.0.1:{port}\\@example.invalid/", "http://@127.0.0.1:{port}/",
    "http://example.invalid\\@127.0.0.1:{port}/", "http:\\\\127.0.0.1:{port}\\", "http://127.0.0.1\\:{port}/",
    "http://127.0.0.1:{port}#@example.invalid/", "http://127.0.0.1:{port}?@example.invalid/",
    "http://example.invalid#@127.0.0.1:{port}/", "http://127.0.0.1:{port}%23@example.invalid/",
    "http://example.invalid%40127.0.0.1:{port}/", "http://127.0.0.1:{port};@example.invalid/",
    # characters that one reader drops and another keeps
    "http://127.0.0\t.1:{port}/", "http://127.0.0.1\t:{port}/", "http://local\nhost:{port}/", "http://127.0.0.1\r\n:{port}/",
    "http://127.0.0.1\x00:{port}/", "http://127.0.0.1\x00.example.invalid:{port}/", "http://127.0.0.1 :{port}/",
    "http://127.0.0.1\u2028:{port}/", "http://127.0.0.1／:{port}/", "http://127.0.0.1：{port}/", "http://127.0.0.1＃:{port}/",
    "http://127.0.0.1\u200b:{port}/", "http://127.0.0.1\ufeff:{port}/", "http://127.0.0.1\u202e:{port}/",
    "http://127.0.0.1:{port}/\r\nHost: example.invalid\r\n\r\n", "http://127.0.0.1:{port}\r\nX: y/",
    "http://127.0.0.1:{port}/\ud800",
    # ports
    "http://127.0.0.1:", "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:-1/", "http://127.0.0.1:+80/",
    "http://127.0.0.1:0x50/", "http://127.0.0.1:8 0/", "http://127.0.0.1:８０/", "http://127.0.0.1:22/",
    "http://127.0.0.1:6379/", "http://127.0.0.1:{port}:80/", "http://127.0.0.1:0000000{port}/",
    # empty and endless
    "", "http:", "http://", "http:///", "http://:{port}/", "http://?", "http://#", "http://[]:{port}/",
    "http://127.0.0.1:{port}/" + "x" * MAX_URL, "http://" + "a." * 200 + "example:{port}/",
]  # fmt: skip
