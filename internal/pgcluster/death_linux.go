package pgcluster

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the kernel end a process when this process is killed. SIGQUIT ends Postgres at once.
func endWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
}
