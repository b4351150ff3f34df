package policy

// SmallOrders are y-coordinates, hexadecimal.
var SmallOrders = smallOrders
