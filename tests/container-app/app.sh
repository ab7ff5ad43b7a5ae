#!/bin/sh
# A small web app: says hello, whether it is well, and which code it is.
HEALTHY=yes
VERSION=$(cat /app/VERSION)
mkdir -p /www
echo "{\"version\": \"$VERSION\", \"commit\": \"$GIT_COMMIT\", \"campaign\": \"$CAMPAIGN_NAME\"}" >/www/version
[ "$HEALTHY" = yes ] && echo well >/www/health
echo "web $VERSION at commit $GIT_COMMIT"
httpd -f -p 8000 -h /www &
trap 'kill $!; exit 0' TERM
wait
