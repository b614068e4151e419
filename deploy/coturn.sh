#!/bin/sh
# Starts coturn as the TURN server of one onair: it takes the logins that onair makes, and relays to onair alone, so that
# nobody can use it to reach anything else. What else coturn needs can be given as arguments, such as
# --cert=FILE --pkey=FILE for turns:.
#
#   ONAIR_TURN_SECRET=… ONAIR_PUBLIC_IP=203.0.113.7 deploy/coturn.sh
set -eu
: "${ONAIR_TURN_SECRET:?must be the secret that onair has as well}"
: "${ONAIR_PUBLIC_IP:?must be the address that onair tells its clients}"

# Addresses of onair, each IP, IP:PORT or [IP]:PORT: coturn wants the address alone.
IFS=,
for address in $ONAIR_PUBLIC_IP; do
    case $address in
    \[*) address=${address#\[} address=${address%%\]*} ;;
    *.*:*) address=${address%:*} ;;
    esac
    set -- "--allowed-peer-ip=$address" "$@"
done
unset IFS

exec "${TURNSERVER:-turnserver}" -n --no-cli --log-file=stdout --simple-log \
    --use-auth-secret --static-auth-secret="$ONAIR_TURN_SECRET" --realm=onair \
    --no-multicast-peers --denied-peer-ip=0.0.0.0-255.255.255.255 \
    --denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "$@"
