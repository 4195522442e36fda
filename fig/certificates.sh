#!/bin/sh
# Makes the certificates with which three hosts' etcd members, and everything that uses them, know each other:
#     fig/certificates.sh ADDRESS1 ADDRESS2 ADDRESS3
# Result in fig/certificates/: ca.pem, and docker01.pem with docker01-key.pem, and so on. Copy ca.pem and a host's own two
# files to that host; ca-key.pem is needed only to make more, so keep it elsewhere. Existing files are kept.
set -eu

if [ $# -ne 3 ]; then
    echo "usage: $0 ADDRESS1 ADDRESS2 ADDRESS3" >&2
    exit 2
fi
folder=$(dirname "$0")/certificates
days=3650
umask 077
mkdir -p "$folder"
cd "$folder"

if [ ! -e ca.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$days" -subj "/CN=pilotfish etcd" \
        -keyout ca-key.pem -out ca.pem 2>/dev/null
fi

number=0
for address in "$@"; do
    number=$((number + 1))
    name=docker0$number
    [ -e "$name.pem" ] && continue
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" \
        -keyout "$name-key.pem" -out "$name.csr" 2>/dev/null
    printf 'subjectAltName=IP:%s,IP:127.0.0.1,DNS:%s\nextendedKeyUsage=serverAuth,clientAuth\n' "$address" "$name" >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days "$days" \
        -extfile "$name.ext" -out "$name.pem" 2>/dev/null
    rm "$name.csr" "$name.ext"
done

# The containers read them as user 9700.
chmod 755 .
chmod 644 ./*.pem
chmod 400 ./*-key.pem
if [ "$(id -u)" = 0 ]; then
    chown 9700:9700 docker*-key.pem
else
    echo "certificates: on each host, make the key readable for the containers:" >&2
    echo "  sudo chown 9700:9700 $folder/docker*-key.pem" >&2
fi
