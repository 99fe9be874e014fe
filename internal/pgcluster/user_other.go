//go:build !unix

package pgcluster

import (
	"os"
	"os/exec"
)

var quit = os.Kill

func asOther(*exec.Cmd) {}

func giveAway(string) error { return nil }
