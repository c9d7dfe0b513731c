# Completion of vmmctl for bash: source this, or install it as
# share/bash-completion/completions/vmmctl.

_vmmctl_vms() {
	vmmctl ps 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_vmmctl_devices() {
	vmmctl devices "$1" 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_vmmctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command=${COMP_WORDS[1]} words=''

	if ((COMP_CWORD == 1)); then
		words='run ps devices stats top set sandbox kill fault upgrade
			scenario blackbox console shutdown layout
			config --help --version'
		mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
		return
	fi
	case $prev in
	--kernel | --initrd | --config | --check | --blackbox | --program | \
		--junit | --json)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--hypervisor) words='auto kvm soft' ;;
	--sandbox) words='on best-effort off' ;;
	--wait-policy) words='latency balanced density' ;;
	--format)
		words='table json'
		[[ $command == stats ]] && words+=' prometheus'
		;;
	--disk) words='path=' ;;
	--net) words='user tap,ifname= switch:' ;;
	--vsock) words='cid=' ;;
	--signal) words='KILL STOP CONT TERM SEGV ABRT' ;;
	*)
		case $command in
		run | layout)
			words='--config --kernel --initrd --cmdline --memory --cpus
				--name --hypervisor --disk --net --vsock
				--virtio-console --rng --balloon --device
				--placement --sandbox --wait-policy --icount
				--console --no-console --blackbox --detach
				--dry-run --quiet
				--verbose --help'
			;;
		config) words='--check --help' ;;
		scenario)
			if ((COMP_CWORD == 2)); then
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
				return
			fi
			words='--junit --json --help'
			;;
		blackbox)
			if ((COMP_CWORD > 2)); then
				mapfile -t COMPREPLY < <(compgen -f -- "$cur")
				return
			fi
			words='show --help'
			;;
		devices | stats | top | set | kill | fault | upgrade | console | shutdown)
			if ((COMP_CWORD == 2)); then
				words=$(_vmmctl_vms)
			elif ((COMP_CWORD == 3)) &&
				[[ $command =~ ^(kill|console|stats|set|fault|upgrade)$ ]]; then
				words=$(_vmmctl_devices "${COMP_WORDS[2]}")
			fi
			case $command in
			devices | stats) words+=' --format' ;;
			top) words+=' --interval' ;;
			kill) words+=' --signal' ;;
			upgrade) words+=' --all --program' ;;
			fault)
				((COMP_CWORD == 4)) && words='kill hang slow error
					drop corrupt-answer list clear'
				((COMP_CWORD > 4)) && words='on= after= times=
					rate= seed= region= address= queue= value=
					for='
				;;
			shutdown) words+=' --force' ;;
			esac
			words+=' --help'
			;;
		esac
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _vmmctl vmmctl
