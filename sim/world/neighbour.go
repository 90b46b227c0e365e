package world

import (
	"context"
	"fmt"
	"path/filepath"

	"tombolo/node"
	"tombolo/region"
	"tombolo/sim"
	"tombolo/sim/cast"
	"tombolo/sim/mental"
)

// startNeighbour brings up Wye, the region next door: one hospital with a FHIR server, and a node that Severn may ask. It gives
// the node's address.
func (w *World) startNeighbour(ctx context.Context) (string, error) {
	hospital, err := w.serve(mental.New(mental.Options{Source: cast.Wye, ODS: "WD1", Name: "Wye District Hospital", Token: "demo-wye-hospital", People: w.People, Now: w.o.Now}))
	if err != nil {
		return "", err
	}
	r, problems := region.Parse("wye.yaml", sim.WyeRegion(hospital, "http://"+w.o.Listen))
	for _, p := range problems {
		if p.Severity == region.Error {
			return "", fmt.Errorf("the simulated neighbour's own file is wrong: %s", p)
		}
	}
	w.Neighbour, err = node.New(ctx, node.Config{Region: r, Folder: w.o.Dir, Data: filepath.Join(w.o.Dir, "wye"), Listen: "127.0.0.1:0",
		Logger: w.o.Logger, Now: w.o.Now, Version: w.o.Version})
	if err != nil {
		return "", err
	}
	go func() {
		if err := w.Neighbour.Run(ctx); err != nil {
			w.o.Logger.Error("the neighbour's node stopped", "error", err)
		}
	}()
	return "http://" + w.Neighbour.Addr(), nil
}
