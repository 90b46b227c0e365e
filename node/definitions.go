package node

import (
	"fmt"

	"tombolo/fhir/profile"
)

// definitions reads the profiles that the region file names. What of them cannot be used is for the log; files that cannot be read keep the node from starting.
func (n *Node) definitions() error {
	paths := make([]string, len(n.c.Region.Definitions))
	for i, p := range n.c.Region.Definitions {
		paths[i] = n.path(p)
	}
	if len(paths) == 0 {
		return nil
	}
	d, problems, err := profile.Load(paths...)
	if err != nil {
		return fmt.Errorf("the region file's definitions: %w", err)
	}
	for _, p := range problems {
		n.c.Logger.Warn("a definition cannot be used", "problem", p)
	}
	n.profiles = d
	n.c.Logger.Info("profiles are known", "profiles", len(d.URLs("")))
	return nil
}
