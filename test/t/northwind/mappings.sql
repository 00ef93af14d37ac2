-- Maps the fourteen tables of Northwind to their replacements. Children stand before their parents on purpose: the order of
-- the backfill comes from the foreign keys, not from here. What is left out has the same name, or is a bare column that comes back by itself.

SELECT tandem.map_table('northwind', 'legacy.order_details', 'shop.order_line',
    forward => '{"price": "unit_price::numeric(12, 2)", "discount": "discount::numeric(4, 3)"}',
    reverse => '{"unit_price": "price", "discount": "discount"}');

SELECT tandem.map_table('northwind', 'legacy.orders', 'shop.sales_order',
    forward => '{"customer_code": "customer_id", "ordered_on": "order_date", "required_on": "required_date", "shipped_on": "shipped_date",
                 "carrier_id": "ship_via", "freight": "freight::numeric(12, 2)",
                 "ship_to": "jsonb_build_object(''name'', ship_name, ''street'', ship_address, ''city'', ship_city, ''region'', ship_region, ''postal_code'', ship_postal_code, ''country'', ship_country)"}',
    reverse => '{"freight": "freight",
                 "ship_name": "ship_to ->> ''name''", "ship_address": "ship_to ->> ''street''", "ship_city": "ship_to ->> ''city''",
                 "ship_region": "ship_to ->> ''region''", "ship_postal_code": "ship_to ->> ''postal_code''", "ship_country": "ship_to ->> ''country''"}');

SELECT tandem.map_table('northwind', 'legacy.products', 'shop.product',
    forward => '{"name": "product_name", "package": "quantity_per_unit", "list_price": "unit_price::numeric(12, 2)", "in_stock": "units_in_stock",
                 "on_order": "units_on_order", "reorder_at": "reorder_level", "discontinued": "discontinued <> 0"}',
    reverse => '{"unit_price": "list_price", "discontinued": "discontinued::integer"}');

SELECT tandem.map_table('northwind', 'legacy.employee_territories', 'shop.employee_territory');

SELECT tandem.map_table('northwind', 'legacy.territories', 'shop.territory',
    forward => '{"name": "territory_description"}');

SELECT tandem.map_table('northwind', 'legacy.region', 'shop.sales_region',
    forward => '{"name": "region_description"}');

SELECT tandem.map_table('northwind', 'legacy.employees', 'shop.employee',
    forward => '{"manager_id": "reports_to", "family_name": "last_name", "given_name": "first_name", "courtesy": "title_of_courtesy",
                 "born_on": "birth_date", "hired_on": "hire_date", "street": "address", "phones": "ARRAY[home_phone, extension]::text[]"}',
    reverse => '{"home_phone": "phones[1]", "extension": "phones[2]"}');

SELECT tandem.map_table('northwind', 'legacy.customer_customer_demo', 'shop.customer_segment',
    forward => '{"customer_code": "customer_id", "segment_id": "customer_type_id"}');

SELECT tandem.map_table('northwind', 'legacy.customer_demographics', 'shop.segment',
    forward => '{"segment_id": "customer_type_id", "description": "customer_desc"}');

SELECT tandem.map_table('northwind', 'legacy.' || p.legacy, 'shop.' || p.new,
    forward => p.forward || '{"company": "company_name", "street": "address", "contact_given": "split_part(contact_name, '' '', 1)",
                              "contact_family": "CASE WHEN strpos(contact_name, '' '') > 0 THEN substr(contact_name, strpos(contact_name, '' '') + 1) END"}',
    reverse => '{"contact_name": "contact_given || coalesce('' '' || contact_family, '''')"}')
  FROM (VALUES ('customers', 'customer', '{"customer_code": "customer_id"}'::jsonb), ('suppliers', 'supplier', '{}')) AS p (legacy, new, forward);

SELECT tandem.map_table('northwind', 'legacy.shippers', 'shop.carrier',
    forward => '{"carrier_id": "shipper_id", "company": "company_name"}');

SELECT tandem.map_table('northwind', 'legacy.categories', 'shop.category',
    forward => '{"name": "category_name"}');

SELECT tandem.map_table('northwind', 'legacy.us_states', 'shop.state',
    forward => '{"name": "state_name", "code": "state_abbr", "region": "state_region"}');
