package access

import (
	"fmt"
	"slices"
)

// Bound is who calls for a change of who may do what, which is made as far as their own
// roles go. Without it a session or token changes nobody but itself.
func (i Identity) Bound() Caller {
	c := i.Caller
	c.as = &i
	return c
}

// Manages says whether somebody may give a grant, and take it: they manage users there, and
// may do all that it lets somebody do.
func (i Identity) Manages(g Grant) bool {
	return i.May(ManageUsers, g.Location) && !slices.ContainsFunc(Permissions(), func(p Permission) bool {
		return mayBy([]Grant{g}, p, g.Location) && !i.May(p, g.Location)
	})
}

// ManagesAll says whether somebody may do with a user as they like. One without a role may
// get any of them, so that one is of who manages everywhere.
func (i Identity) ManagesAll(u User) bool {
	if len(u.Grants) == 0 {
		return i.May(ManageUsers, Everywhere)
	}
	return !slices.ContainsFunc(u.Grants, func(g Grant) bool { return !i.Manages(g) })
}

// now is who calls, with the roles of this moment: a request's body may come slowly.
func (a *Access) now(by Caller) (i Identity, err error) {
	if by.as == nil {
		return i, fmt.Errorf("%w: %w: users are changed by who manages them", ErrRefused, ErrBeyond)
	}
	i = *by.as
	i.User, err = a.User(i.User.Name)
	return i, err
}

// bounded says why a caller may not give or take grants. Who types commands as the hub's
// user could write the files, too.
func (a *Access) bounded(by Caller, grants ...Grant) error {
	if by.Via == ViaCLI {
		return nil
	}
	who, err := a.now(by)
	if err != nil {
		return err
	}
	for _, g := range grants {
		if !who.Manages(g) {
			return fmt.Errorf("%w: %s is %w: you may not manage users there, or not do all that it lets somebody do; ask an admin of more than that", ErrRefused, g, ErrBeyond)
		}
	}
	return nil
}

// boundedOf says why a caller may not do with a user as they like.
func (a *Access) boundedOf(by Caller, u *User) error {
	if by.Via == ViaCLI {
		return nil
	}
	who, err := a.now(by)
	if err == nil && !who.ManagesAll(*u) {
		err = fmt.Errorf("%w: what user %s may do is %w: ask an admin of all that they may", ErrRefused, u.Name, ErrBeyond)
	}
	return err
}
