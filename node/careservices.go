package node

import (
	"context"
	"time"

	"tombolo/connector/ods"
	"tombolo/directory"
	"tombolo/fhir"
	"tombolo/region"
)

// lookUpEvery is how often ODS is asked about the organisations of the region.
const lookUpEvery = 24 * time.Hour

// careServices makes the directory of organisations, services and endpoints, and has ODS asked about them if the region file says where.
func (n *Node) careServices() error {
	o := directory.Options{Store: n.store, Own: n.ownEndpoints, Now: n.c.Now, Region: func() *region.Region {
		r, _, _ := n.agreed.InForce()
		return r
	}}
	if d := n.c.Region.Directory; d.ODS != "" {
		key := ""
		if d.Key != "" {
			var err error
			if key, err = n.secretAt(d.Key); err != nil {
				return fhir.Errorf(fhir.NotFound, "directory.key: %w", err)
			}
		}
		var err error
		if o.ODS, err = ods.New(ods.Options{Address: d.ODS, APIKey: key, HTTP: n.client(), Now: n.c.Now, Believe: lookUpEvery / 2}); err != nil {
			return err
		}
	}
	n.services = directory.New(o)
	if o.ODS != nil {
		turn := n.lease("directory")
		n.keepers = append(n.keepers, keeper{lookUpEvery, "look organisations up in ODS", inTurn(turn, func(ctx context.Context) error { return n.services.Refresh(ctx) })})
	}
	return nil
}

// ownEndpoints are where this node answers.
func (n *Node) ownEndpoints() []directory.Endpoint {
	at := n.issuer()
	rest := fhir.Coding{System: directory.SystemConnection, Code: "hl7-fhir-rest"}
	return []directory.Endpoint{
		{ID: n.c.Region.ID + "-fhir", Name: n.c.Region.Name + ": FHIR R4", Address: at + "/fhir", Type: rest},
		{ID: n.c.Region.ID + "-identity", Name: n.c.Region.Name + ": PDQm and PIXm", Address: at + "/identity", Type: rest},
		{ID: n.c.Region.ID + "-directory", Name: n.c.Region.Name + ": mCSD", Address: at + "/directory", Type: rest},
	}
}
