package access

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what somebody is at a location; see rolesOf for what each may do.
type Role string

// The roles.
const (
	Viewer          Role = "viewer"
	Technician      Role = "technician"
	Operator        Role = "operator"
	QualityEngineer Role = "quality-engineer"
	Maintainer      Role = "maintainer"
	ProductOwner    Role = "product-owner"
	Governor        Role = "governor"
	Admin           Role = "admin"
)

// Roles are all roles.
func Roles() []Role {
	return []Role{Viewer, Technician, Operator, QualityEngineer, Maintainer, ProductOwner, Governor, Admin}
}

// Permission is something that can be done at a hub.
type Permission string

// The permissions. The zero Permission is nobody's.
const (
	ReadProducts  Permission = "read products"
	ReadAgents    Permission = "read agents"
	ReadHealth    Permission = "read health" // of the hub itself: its checks and figures
	ApproveAgents Permission = "approve agents"
	RevokeAgents  Permission = "revoke agents"
	ManageKeys    Permission = "manage keys" // one-time keys of gateways
	// ConfigureAgents: which sources they read, and by which rules.
	ConfigureAgents Permission = "configure agents"
	// ConfigureRules is that for the rules alone.
	ConfigureRules Permission = "configure rules"
	RotateKeys     Permission = "rotate keys" // the one that signs gateways' tokens
	// ManageMachines is to register machines and models, and to say what their signals
	// mean.
	ManageMachines Permission = "manage machines"
	// ManageReaders is to let programs read products over NATS, and to end that.
	ManageReaders Permission = "manage readers"
	ManageUsers   Permission = "manage users"
	ReadAudit     Permission = "read audit"
)

// Permissions are all permissions.
func Permissions() []Permission {
	return []Permission{ReadProducts, ReadAgents, ReadHealth, ApproveAgents, RevokeAgents, ConfigureAgents, ConfigureRules, ManageKeys, RotateKeys, ManageMachines, ManageReaders, ManageUsers, ReadAudit}
}

// RolesThatMay are the roles that let somebody do something.
func RolesThatMay(p Permission) []Role { return rolesOf(p) }

// rolesOf is the table: who may do what. What it doesn't name nobody may.
func rolesOf(p Permission) []Role {
	switch p {
	case ReadProducts, ReadAgents, ReadHealth:
		return Roles()
	case ApproveAgents, RevokeAgents, ManageKeys, ManageMachines:
		return []Role{Operator, Admin}
	case ConfigureAgents:
		return []Role{Technician, Operator, Admin}
	case ConfigureRules:
		return []Role{Technician, Operator, QualityEngineer, Admin}
	case ManageReaders:
		return []Role{ProductOwner, Admin}
	case RotateKeys, ManageUsers:
		return []Role{Admin}
	case ReadAudit:
		return []Role{Governor, Admin}
	}
	return nil
}

// reads says whether a permission changes nothing.
func reads(p Permission) bool {
	switch p {
	case ReadProducts, ReadAgents, ReadHealth, ReadAudit:
		return true
	default:
		return false
	}
}

// Everywhere is the location of all locations.
const Everywhere = ""

// Bounds of locations and grants.
const (
	maxSteps  = 10
	maxStep   = 63
	maxGrants = 64
)

// Grant is a role at a location and all that lies below it.
type Grant struct {
	Role     Role   `json:"role"`
	Location string `json:"location,omitempty"` // site/line/equipment, as "graz/line1"; empty: everywhere
}

func (g Grant) String() string {
	if g.Location == Everywhere {
		return string(g.Role)
	}
	return string(g.Role) + "@" + g.Location
}

// ParseGrant reads a grant as String writes it.
func ParseGrant(s string) (Grant, error) {
	role, location, at := strings.Cut(s, "@")
	g := Grant{Role(role), location}
	if at && location == Everywhere {
		return g, fmt.Errorf("%w: %q names no location behind its @: write %s for everywhere, or %s@SITE", ErrRefused, s, role, role)
	}
	return g, g.check()
}

func (g Grant) check() error {
	if !slices.Contains(Roles(), g.Role) {
		var names []string
		for _, r := range Roles() {
			names = append(names, string(r))
		}
		return fmt.Errorf("%w: there is no role %q; roles are %s", ErrRefused, g.Role, strings.Join(names, ", "))
	}
	if g.Location != Everywhere && !isLocation(g.Location) {
		return fmt.Errorf("%w: %q is no location such as graz/line1: site, line and equipment as they stand in the site file, a slash between", ErrRefused, g.Location)
	}
	return nil
}

func isLocation(s string) bool {
	steps := strings.Split(s, "/")
	return len(steps) <= maxSteps && !slices.ContainsFunc(steps, func(step string) bool {
		return step == "" || step == "." || step == ".." || len(step) > maxStep || strings.ContainsFunc(step, func(r rune) bool {
			return r <= ' ' || r == '@' || r == ',' || r > '~'
		})
	})
}

// covers says whether a location lies at or below the grant's.
func (g Grant) covers(location string) bool {
	return g.Location == Everywhere || g.Location == location || strings.HasPrefix(location, g.Location+"/")
}

// mayBy says whether grants let somebody do something at a location.
func mayBy(grants []Grant, p Permission, location string) bool {
	roles := rolesOf(p)
	return slices.ContainsFunc(grants, func(g Grant) bool { return slices.Contains(roles, g.Role) && g.covers(location) })
}

// within says whether all that a grant lets somebody do, others let them do, too.
func (g Grant) within(others []Grant) bool {
	return !slices.ContainsFunc(Permissions(), func(p Permission) bool {
		return mayBy([]Grant{g}, p, g.Location) && !mayBy(others, p, g.Location)
	})
}

func checkGrants(grants []Grant) error {
	if len(grants) == 0 {
		return fmt.Errorf("%w: say at least one role, such as viewer or operator@graz", ErrRefused)
	}
	if len(grants) > maxGrants {
		return fmt.Errorf("%w: at most %d roles", ErrRefused, maxGrants)
	}
	for _, g := range grants {
		if err := g.check(); err != nil {
			return err
		}
	}
	return nil
}

// sorted are grants in one order, each once.
func sorted(grants []Grant) []Grant {
	out := slices.Clone(grants)
	slices.SortFunc(out, func(a, b Grant) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(out)
}

// Said are grants in a line.
func Said(grants []Grant) string {
	words := make([]string, len(grants))
	for i, g := range grants {
		words[i] = g.String()
	}
	return strings.Join(words, ", ")
}
