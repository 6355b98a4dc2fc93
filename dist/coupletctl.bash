# SPDX-License-Identifier: MIT
# Completion for bash: /usr/share/bash-completion/completions/coupletctl

_coupletctl() {
	local words=${COMP_WORDS[*]:1:COMP_CWORD-1} IFS=$'\n'
	[[ ${COMP_WORDS[COMP_CWORD-1]} == --config ]] && { COMPREPLY=($(compgen -f -- "$2")); return; }
	words=${words//--config=* /}
	COMPREPLY=($(coupletctl --help 2>/dev/null |
		awk -v typed="${words:+$words }" '/^  [a-z]/ { line = substr($0, 3); sub(/(  |[A-Z[]).*/, "", line);
			if (index(line, typed) == 1) { split(substr(line, length(typed) + 1), w, " "); print w[1] } }' |
		sort -u | grep "^$2"))
}
complete -o default -F _coupletctl coupletctl
