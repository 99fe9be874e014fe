package postgres

import (
	"os/exec"
	"syscall"
)

// endWithTest lets the kernel end a process when the test's process is killed. SIGQUIT ends Postgres at once.
func endWithTest(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
}
