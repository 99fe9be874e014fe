package pgcheck

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the kernel end a process when this process is killed.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
