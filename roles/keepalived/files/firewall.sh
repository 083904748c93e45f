#!/bin/sh
# firewall.sh CONFIG DRY [INTERFACE=EDGE...]: let the adverts of these edges in where ufw or firewalld runs, as no table of our
# own gets past what they drop. CONFIG is the keepalived.conf of the run before: edges that stand there and are none any
# more lose what they were given. Says what it changes, or with `yes` for DRY what it would.
set -eu
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
config=$1 dry=$2
shift 2
# Two VIPs have the same edges, and none has a space
# shellcheck disable=SC2046
set -- $(printf '%s\n' "$@" | sort -u)
before=$(sed -n 's/^ *\([0-9a-f.:]*\) min_ttl 255 max_ttl 255$/\1/p' "$config" 2>/dev/null | sort -u)

change() {
    echo "$*"
    [ "$dry" = yes ] || "$@" >/dev/null
}

wanted() {
    for pair; do
        [ "${pair#*=}" != "$edge" ] || return 0
    done
    return 1
}

if command -v ufw >/dev/null && ufw status | grep -q '^Status: active'; then
    added=$(ufw show added)
    for pair; do
        edge=${pair#*=}
        echo "$added" | grep -qF "ufw allow from $edge proto vrrp" ||
            change ufw allow proto vrrp from "$edge" comment keepalived-vip
    done
    for edge in $before; do
        # Without our comment it is somebody else's
        if ! wanted "$@" && echo "$added" | grep -qF "ufw allow from $edge proto vrrp comment 'keepalived-vip'"; then
            change ufw delete allow proto vrrp from "$edge"
        fi
    done
fi

# The priority makes it a rule of our own, and puts it before what the zone refuses
rule() {
    case $edge in *:*) family=ipv6 ;; *) family=ipv4 ;; esac
    echo "rule priority=\"-112\" family=\"$family\" source address=\"$edge\" protocol value=\"vrrp\" accept"
}

# allowed ZONE [--permanent]
allowed() { firewall-cmd --quiet --zone="$1" ${2:+"$2"} --query-rich-rule="$(rule)"; }

if command -v firewall-cmd >/dev/null && firewall-cmd --quiet --state; then
    for pair; do
        edge=${pair#*=}
        zone=$(firewall-cmd --get-zone-of-interface="${pair%%=*}" 2>/dev/null) || zone=$(firewall-cmd --get-default-zone)
        for permanent in '' --permanent; do
            allowed "$zone" $permanent || change firewall-cmd --zone="$zone" $permanent --add-rich-rule="$(rule)"
        done
    done
    for edge in $before; do
        wanted "$@" && continue
        for zone in $(firewall-cmd --get-zones); do
            for permanent in '' --permanent; do
                ! allowed "$zone" $permanent || change firewall-cmd --zone="$zone" $permanent --remove-rich-rule="$(rule)"
            done
        done
    done
fi
