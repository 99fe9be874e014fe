package serve

import "fmt"

// Every connection and every open file takes a descriptor. A server whose connections use all of them could not open the next
// file of its store, and would answer every request 503 until some are closed.

const (
	// ownDescriptors are those of the process and of the store, without segments that are open for reading: the standard
	// streams, the listener and what the runtime polls with (6), the lock, the newest segment and the next, a snapshot that is
	// written, one that is read, and the directory while it is synced (8), and files of tokens, certificates and the metrics of
	// the process while they are read (4). The rest is left for what they open for a moment.
	ownDescriptors = 32
	// mostSegments is the default of the store.
	mostSegments = 256
	// leastConnections is what a server is good for.
	leastConnections = 8
)

// descriptors says what the descriptors of the process are for.
type descriptors struct {
	segments int // that the store keeps open for reading
	accepted int // connections that may be open; 0 for no limit
	served   int // those of them whose requests are served; the others are answered 503
}

// divide divides the descriptors that the process may have. limit is 0 where none is known.
func divide(limit uint64, connections int) (descriptors, error) {
	if limit == 0 {
		return descriptors{segments: mostSegments, served: connections}, nil
	}
	all := int(min(limit, 1<<30)) // some systems say that there is no limit by the largest number
	d := descriptors{segments: min(all/4, mostSegments)}
	if d.accepted = all - ownDescriptors - d.segments; d.accepted < leastConnections {
		return d, fmt.Errorf("the process may open %d files, which are too few for the store and %d connections: allow more, with \"ulimit -n 1024\" in a shell or LimitNOFILE= in a systemd unit", all, leastConnections)
	}
	d.served = min(connections, d.accepted-d.accepted/8)
	return d, nil
}

// setDescriptors keeps descriptors back from the connections, and says so if that leaves fewer of them than configured.
func (c *Config) setDescriptors() (err error) {
	limit := descriptorLimit()
	if c.descriptors, err = divide(limit, c.Limits.Connections); err != nil {
		return err
	}
	if c.descriptors.served < c.Limits.Connections {
		c.Logger.Warn("the limit of open files allows fewer connections than --max-connections: raise it, with ulimit -n or LimitNOFILE=, or lower --max-connections",
			"files", limit, "max-connections", c.Limits.Connections, "connections", c.descriptors.served)
		c.Limits.Connections = c.descriptors.served
	}
	return nil
}
