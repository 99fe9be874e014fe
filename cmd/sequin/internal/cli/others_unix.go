//go:build unix

package cli

import (
	"io/fs"
	"os"
	"syscall"
)

// OthersMayUse reports whether a file of the user that runs this process can be read or changed by other users. As ssh does with its
// keys, it does not judge the files of other owners: secrets that a container platform mounts belong to the superuser.
func OthersMayUse(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid() && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0
}
