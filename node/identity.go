package node

import (
	"cmp"
	"context"
	"strings"
	"time"
)

// sweepEvery is how often what getting in no longer needs is forgotten.
const sweepEvery = 10 * time.Minute

// issuer is this node's own base URL, by which it signs: as the region file or the command line says, else where it listens.
func (n *Node) issuer() string {
	if said := cmp.Or(n.c.Region.Identity.Issuer, strings.TrimSuffix(strings.TrimRight(n.c.Base, "/"), "/fhir")); said != "" {
		return strings.TrimRight(said, "/")
	}
	scheme := "http://"
	if n.c.TLS.Cert != "" {
		scheme = "https://"
	}
	return scheme + n.Addr()
}

// sweeper forgets sessions and tokens that are over.
func (n *Node) sweeper() keeper {
	return keeper{sweepEvery, "forget sessions that are over", func(ctx context.Context) error {
		_, err := n.Access.State().Sweep(ctx)
		return err
	}}
}
