//go:build unix

package pgcluster

import (
	"os"
	"os/exec"
	"syscall"
)

// quit makes Postgres end at once.
const quit = syscall.SIGQUIT

// nobody is the user that runs Postgres when this process runs as root.
const nobody = 65534

func asOther(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	endWithParent(cmd)
}

func giveAway(dir string) error {
	if os.Geteuid() == 0 {
		return os.Chown(dir, nobody, nobody)
	}
	return nil
}
