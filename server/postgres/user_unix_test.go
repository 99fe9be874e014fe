//go:build unix

package postgres

import (
	"os"
	"os/exec"
	"syscall"
)

// Postgres does not run as root. As root the tests run it as nobody, who owns its directory.
const nobody = 65534

func asOther(cmd *exec.Cmd) {
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	endWithTest(cmd)
}

func giveAway(dir string) error {
	if os.Geteuid() == 0 {
		return os.Chown(dir, nobody, nobody)
	}
	return nil
}
