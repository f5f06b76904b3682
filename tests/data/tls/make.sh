#!/bin/sh
# Makes the keys and certificates of tests/http and of the kubeconfig's unit tests. They are checked in, since the tests
# need dates far away and keys of every kind; run this only to make other ones. Nothing but tests trusts any of them.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

key() { # name, then what genpkey takes
    name=$1; shift
    openssl genpkey "$@" -out "$name.pkcs8.key"
}
key rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
key p256 -algorithm EC -pkeyopt ec_paramgen_curve:P-256
key p384 -algorithm EC -pkeyopt ec_paramgen_curve:P-384
key ed25519 -algorithm ED25519
key ca -algorithm EC -pkeyopt ec_paramgen_curve:P-256
key server -algorithm EC -pkeyopt ec_paramgen_curve:P-256
openssl pkey -in rsa.pkcs8.key -traditional -out rsa.pkcs1.key
openssl pkey -in p256.pkcs8.key -traditional -out p256.sec1.key
openssl pkey -in p384.pkcs8.key -traditional -out p384.sec1.key
# As `openssl ecparam -genkey` writes it.
{ openssl ecparam -name prime256v1; cat p256.sec1.key; } > p256.params.key
openssl pkey -in p256.pkcs8.key -aes128 -passout pass:x -out encrypted.key

touch "$work/index"
echo 01 > "$work/serial"
cat > "$work/ca.conf" <<CONF
[ca]
default_ca = one
[one]
database = $work/index
serial = $work/serial
new_certs_dir = $work
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
organizationName = optional
CONF
# By itself, so that its dates can be chosen too.
own() { # file, subject, key, extensions
    openssl req -new -key "$3" -subj "$2" -addext "$4" -addext basicConstraints=critical,CA:TRUE -out "$work/csr"
    openssl ca -batch -notext -config "$work/ca.conf" -selfsign -keyfile "$3" -in "$work/csr" -out "$1" \
        -startdate 20200101000000Z -enddate 20991231235959Z 2>/dev/null
}
sign=keyUsage=critical,keyCertSign,digitalSignature
own ca.pem "/CN=pinlet test authority" ca.pkcs8.key $sign
own other-ca.pem "/CN=another authority" p384.pkcs8.key $sign

certificate() { # file, subject, key, extensions, from, to
    openssl req -new -key "$3" -subj "$2" -addext "$4" -out "$work/csr"
    openssl ca -batch -notext -config "$work/ca.conf" -cert ca.pem -keyfile ca.pkcs8.key -in "$work/csr" -out "$1" \
        -startdate "$5" -enddate "$6" 2>/dev/null
}
always="20200101000000Z 20991231235959Z"
names=subjectAltName=DNS:localhost,DNS:api.test,IP:127.0.0.1
certificate server.pem /CN=server server.pkcs8.key $names $always
certificate other-name.pem /CN=server server.pkcs8.key subjectAltName=DNS:elsewhere.test $always
certificate expired.pem /CN=server server.pkcs8.key $names 20200101000000Z 20210101000000Z
certificate early.pem /CN=server server.pkcs8.key $names 20980101000000Z 20991231235959Z
for kind in rsa p256 p384 ed25519; do
    certificate client-$kind.pem /O=system:nodes/CN=system:node:$kind $kind.pkcs8.key extendedKeyUsage=clientAuth $always
done
certificate client-second.pem /O=system:nodes/CN=system:node:second p256.pkcs8.key extendedKeyUsage=clientAuth $always

# What registry guides make: a server that is its own authority.
own own.pem /CN=own server.pkcs8.key $names
