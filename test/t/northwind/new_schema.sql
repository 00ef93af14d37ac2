-- The redesign of Northwind that t/northwind.pl migrates to: what a team would do to a schema of 1996.
--
--   names in the singular · smallint keys to bigint · float4 money to numeric · varchar(n) to text with checks where they mean something ·
--   contact_name split in two · the six ship_* columns merged into one document · an integer flag to boolean · generated values
--
-- The split is at the first blank. The checks keep the new side to names that come back the same when they are joined and split again.

CREATE SCHEMA shop;
SET search_path = shop;

CREATE TABLE category (
    category_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    description text,
    picture     bytea
);

CREATE TABLE segment (
    segment_id  text PRIMARY KEY,
    description text
);

CREATE TABLE customer (
    customer_code  text PRIMARY KEY CHECK (length(customer_code) <= 5),
    company        text NOT NULL,
    contact_given  text CHECK (strpos(contact_given, ' ') = 0),
    contact_family text,
    contact_title  text,
    street         text,
    city           text,
    region         text,
    postal_code    text,
    country        text,
    phone          text,
    fax            text,
    CHECK (contact_given IS NOT NULL OR contact_family IS NULL)
);

CREATE TABLE customer_segment (
    customer_code text REFERENCES customer,
    segment_id    text REFERENCES segment,
    PRIMARY KEY (segment_id, customer_code)
);

CREATE TABLE employee (
    employee_id bigint PRIMARY KEY,
    manager_id  bigint REFERENCES employee,
    family_name text NOT NULL,
    given_name  text NOT NULL,
    title       text,
    courtesy    text,
    born_on     date,
    hired_on    date,
    street      text,
    city        text,
    region      text,
    postal_code text,
    country     text,
    phones      text[], -- at home, extension
    photo       bytea,
    photo_path  text,
    notes       text
);

CREATE TABLE sales_region (
    region_id bigint PRIMARY KEY,
    name      text NOT NULL
);

CREATE TABLE territory (
    territory_id text PRIMARY KEY,
    name         text NOT NULL,
    region_id    bigint NOT NULL REFERENCES sales_region
);

CREATE TABLE employee_territory (
    employee_id  bigint REFERENCES employee,
    territory_id text REFERENCES territory,
    PRIMARY KEY (employee_id, territory_id)
);

CREATE TABLE carrier (
    carrier_id bigint PRIMARY KEY,
    company    text NOT NULL,
    phone      text
);

CREATE TABLE supplier (
    supplier_id    bigint PRIMARY KEY,
    company        text NOT NULL,
    contact_given  text CHECK (strpos(contact_given, ' ') = 0),
    contact_family text,
    contact_title  text,
    street         text,
    city           text,
    region         text,
    postal_code    text,
    country        text,
    phone          text,
    fax            text,
    homepage       text,
    CHECK (contact_given IS NOT NULL OR contact_family IS NULL)
);

CREATE TABLE product (
    product_id   bigint PRIMARY KEY,
    name         text NOT NULL,
    supplier_id  bigint REFERENCES supplier,
    category_id  bigint REFERENCES category,
    package      text,
    list_price   numeric(12, 2),
    in_stock     bigint,
    on_order     bigint,
    reorder_at   bigint,
    discontinued boolean NOT NULL
);

CREATE TABLE sales_order (
    order_id      bigint PRIMARY KEY,
    customer_code text REFERENCES customer,
    employee_id   bigint REFERENCES employee,
    ordered_on    date,
    required_on   date,
    shipped_on    date,
    carrier_id    bigint REFERENCES carrier,
    freight       numeric(12, 2),
    ship_to       jsonb NOT NULL
);

CREATE TABLE order_line (
    order_id   bigint REFERENCES sales_order,
    product_id bigint REFERENCES product,
    price      numeric(12, 2) NOT NULL,
    quantity   bigint NOT NULL CHECK (quantity > 0),
    discount   numeric(4, 3) NOT NULL CHECK (discount BETWEEN 0 AND 1),
    amount     numeric GENERATED ALWAYS AS (round(price * quantity * (1 - discount), 2)) STORED,
    PRIMARY KEY (order_id, product_id)
);

CREATE TABLE state (
    state_id bigint PRIMARY KEY,
    name     text,
    code     text,
    region   text
);
