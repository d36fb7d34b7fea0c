/* netaddr: to come */
