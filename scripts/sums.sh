# shellcheck shell=sh
# Lists of SHA-256 sums on this side: lines "<64 hex digits>  <name>".

sha256() {
  # macOS has the second one.
  if command -v sha256sum >/dev/null 2>&1; then
    LC_ALL=C sha256sum "$@"
  else
    LC_ALL=C shasum -a 256 "$@"
  fi
}

right_here() { # FOLDER LIST -> the names of those files that are in FOLDER and right
  (cd "$1" && sha256 -c - 2>/dev/null) <"$2" | sed -n 's/: OK$//p'
}

without() { # NAMES LIST -> the lines of LIST with other names
  LC_ALL=C awk 'FILENAME == ARGV[1] { right[$0]; next } !(substr($0, 67) in right)' "$1" "$2"
}

count() { # LIST -> how many lines; macOS puts blanks before the number
  echo $(($(wc -l <"$1")))
}

in_short() { # LIST -> its first names in one line
  cut -c 67- "$1" | awk 'NR < 4 { printf "%s%s", (NR > 1 ? ", " : ""), $0 }
    END { if (NR > 3) printf " and %d more", NR - 3 }'
}

sizes() { # FOLDER LIST -> lines "BYTES ./NAME"
  cut -c 67- "$2" | sed 's|^|./|' | tr '\n' '\0' | (cd "$1" && xargs -0 wc -c) |
    sed -n 's|^ *\([0-9]* \./\)|\1|p'
}
