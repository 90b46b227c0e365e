// Package community is the simulated system of a community health provider: it answers no questions, and leaves an extract in
// a drop folder each night (or uploads it), one CSV file a kind of record, Windows-1252 with CRLF and British dates.
package community

import (
	"context"
	"fmt"
	"slices"

	"tombolo/dataset"
	"tombolo/sim/cast"
	"tombolo/sim/nightly"
)

// Options of a System.
type Options = nightly.Options

// A System is the provider's system.
type System struct {
	people []cast.Person
	out    nightly.Handover
}

// New makes a System.
func New(o Options) (*System, error) {
	people, out, err := o.At(cast.Community)
	if err != nil {
		return nil, fmt.Errorf("community: %w", err)
	}
	return &System{people, out}, nil
}

var who = []string{"patient_id", "nhs_number", "surname", "forenames", "title", "date_of_birth", "date_of_death", "sex", "address", "town", "postcode", "telephone", "restricted"}

func table(name string, columns ...string) *nightly.Table {
	return &nightly.Table{Name: name, Columns: slices.Concat(who, columns)}
}

// Write writes the night's extract. With a fault switched on that stops the run, there simply is no file.
func (s *System) Write(ctx context.Context) error {
	if s.out.Off() {
		return nil
	}
	if err := s.out.PutTables(ctx, s.tables()); err != nil {
		return fmt.Errorf("community: %w", err)
	}
	return nil
}

// A night is the tables under construction.
type night struct {
	patients, contacts, appointments, plans, ends, observations, alerts, devices, maternity *nightly.Table
}

func (s *System) tables() []*nightly.Table {
	n := night{
		patients:     table("patients.csv"),
		contacts:     table("contacts.csv", "contact_id", "setting", "contact_code", "contact_type", "start_time", "end_time", "reason", "place", "professional", "role", "service", "notes"),
		appointments: table("appointments.csv", "appointment_id", "status", "appointment_type", "date", "start_time", "end_time", "place", "professional", "role", "reason"),
		plans:        table("care_plans.csv", "plan_id", "status", "plan_code", "plan_type", "plan", "start_date", "end_date", "author", "marking"),
		ends:         table("end_of_life.csv", "record_id", "status", "form_code", "form", "wishes", "agreed_on", "agreed_with"),
		observations: table("observations.csv", "observation_id", "remote", "code", "measurement", "measured_at", "result", "unit", "measured_by"),
		alerts:       table("alerts.csv", "alert_id", "status", "code", "alert", "detail", "priority", "raised_on", "raised_by"),
		devices:      table("devices.csv", "device_id", "status", "code", "device", "detail", "fitted_on", "fitted_by"),
		maternity:    table("maternity.csv", "episode_id", "status", "code", "episode", "outcome", "start_date", "end_date", "midwife"),
	}
	for i, p := range s.people {
		nhs := p.NHS
		if s.out.WrongPatient() && i > 0 {
			nhs = s.people[0].NHS // somebody else's rows under the first person's number
		}
		n.add(p, nightly.Who(p, cast.Community, nhs))
	}
	return []*nightly.Table{n.patients, n.contacts, n.appointments, n.plans, n.ends, n.observations, n.alerts, n.devices, n.maternity}
}

func (n *night) add(p cast.Person, who []string) {
	row := func(t *nightly.Table, cells ...string) { t.Add(append(append([]string{}, who...), cells...)...) }
	row(n.patients)
	for _, e := range p.EncountersAt(cast.Community) {
		row(n.contacts, e.ID, e.Class, e.Code, e.Type, nightly.Moment(e.Start), nightly.Moment(e.End), e.Reason, e.Where, e.By, e.Role, cast.OrganisationOf(cast.Community).Name, e.Note)
	}
	for _, a := range p.AppointmentsAt(cast.Community) {
		row(n.appointments, a.ID, a.Status, a.Type, nightly.Day(a.Start), nightly.Clock(a.Start), nightly.Clock(a.End), a.Where, a.With, a.Role, a.Reason)
	}
	for i, f := range p.ItemsAt(cast.Community) {
		id := fmt.Sprintf("%s-%d", who[0], i+1)
		switch f.Heading {
		case dataset.CarePlans:
			row(n.plans, id, f.Status, f.Code, f.Display, f.Text, nightly.Day(f.Date), nightly.Day(f.End), f.By, f.Label)
		case dataset.EndOfLife:
			row(n.ends, id, f.Status, f.Code, f.Display, f.Text, nightly.Day(f.Date), f.By)
		case dataset.Observations, dataset.RemoteMonitoring:
			row(n.observations, id, nightly.Flag(f.Heading == dataset.RemoteMonitoring), f.Code, f.Display, nightly.Moment(f.Date), f.Value, f.Unit, f.By)
		case dataset.Alerts:
			row(n.alerts, id, f.Status, f.Code, f.Display, f.Text, f.Level, nightly.Day(f.Date), f.By)
		case dataset.Devices:
			row(n.devices, id, f.Status, f.Code, f.Display, f.Text, nightly.Day(f.Date), f.By)
		case dataset.Maternity:
			row(n.maternity, id, f.Status, f.Code, f.Display, f.Text, nightly.Day(f.Date), nightly.Day(f.End), f.By)
		default:
			panic(fmt.Sprintf("community: no file for the heading %s: %s holds one", f.Heading, p.Key))
		}
	}
}
