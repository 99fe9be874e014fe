package crashfs

// Op is a change of the file system.
type Op struct {
	Kind   Kind
	Name   string // of the file, or of the directory for SyncDir
	Offset int64  // for Write
	Size   int64  // of what is written, or of the file that Allocate and Truncate make
}

// Kind is the kind of a change.
type Kind string

// The kinds of changes.
const (
	Create   Kind = "create"
	Write    Kind = "write"
	Allocate Kind = "allocate"
	Truncate Kind = "truncate"
	Sync     Kind = "sync"
	SyncDir  Kind = "sync directory"
	Rename   Kind = "rename"
	Link     Kind = "link"
	Remove   Kind = "remove"
	Lock     Kind = "lock"
)

// Short is an error of a hook that lets the first N bytes of a write through.
type Short struct {
	N   int
	Err error
}

func (s *Short) Error() string { return s.Err.Error() }
func (s *Short) Unwrap() error { return s.Err }
