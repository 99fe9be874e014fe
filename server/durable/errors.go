package durable

import "github.com/sequin-go/sequin/server/internal/store"

// The errors of Open, for errors.Is. Their texts say more: which process, which versions, which file and offset.
var (
	// ErrLocked says that another process uses the directory.
	ErrLocked = store.ErrLocked
	// ErrVersion says that another version of this package has written the directory. Nothing in it was changed.
	ErrVersion = store.ErrVersion
	// ErrDamaged says that a file is not what was written. Repair saves what can be read.
	ErrDamaged = store.ErrDamaged
	// ErrReadOnly says that the directory cannot be written.
	ErrReadOnly = store.ErrReadOnly
	// ErrDiskFull says that the disk, or a limit of the size of files, has no room for the first files.
	ErrDiskFull = store.ErrDiskFull
)
